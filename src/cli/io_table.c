/* SPDX-License-Identifier: MIT */
/* The commands of corral io, in the order in which help lists them, and what help says of each. */
#include "base/attr.h"
#include "cli/io.h"

static const char read_help[] = "\n"
				" reads a range of bytes from the given offset\n"
				"\n"
				" Example:\n"
				" 'read -v 512 1k' - dumps 1 kilobyte read from 512 bytes into the file\n"
				"\n"
				" Reads a part of the disk. Unless told otherwise it prints how long that took.\n"
				" -b, -- read from the VM state rather than the virtual disk\n"
				" -C, -- report statistics in a machine parsable format\n"
				" -l, -- length for pattern verification (only with -P)\n"
				" -p, -- ignored for backwards compatibility\n"
				" -P, -- use a pattern to verify read data\n"
				" -q, -- quiet mode, do not show I/O statistics\n"
				" -s, -- start offset for pattern verification (only with -P)\n"
				" -v, -- dump buffer to standard output\n"
				"\n";

static const char readv_help[] = "\n"
				 " reads a range of bytes from the given offset into multiple buffers\n"
				 "\n"
				 " Example:\n"
				 " 'readv -v 512 1k 1k ' - dumps 2 kilobytes read from 512 bytes into the file\n"
				 "\n"
				 " Reads as many bytes as all the lengths together, in one request.\n"
				 " -C, -- report statistics in a machine parsable format\n"
				 " -P, -- use a pattern to verify read data\n"
				 " -v, -- dump buffer to standard output\n"
				 " -q, -- quiet mode, do not show I/O statistics\n"
				 "\n";

static const char write_help[] = "\n"
				 " writes a range of bytes from the given offset\n"
				 "\n"
				 " Example:\n"
				 " 'write 512 1k' - writes 1 kilobyte at 512 bytes into the open file\n"
				 "\n"
				 " Writes a pattern (0xcd, unless told otherwise) to a part of the disk.\n"
				 " -b, -- write to the VM state rather than the virtual disk\n"
				 " -c, -- write compressed data\n"
				 " -f, -- use Force Unit Access semantics\n"
				 " -n, -- with -z, don't allow slow fallback\n"
				 " -p, -- ignored for backwards compatibility\n"
				 " -P, -- use different pattern to fill file\n"
				 " -s, -- use a pattern file to fill the write buffer\n"
				 " -C, -- report statistics in a machine parsable format\n"
				 " -q, -- quiet mode, do not show I/O statistics\n"
				 " -u, -- with -z, allow unmapping\n"
				 " -z, -- write zeroes without a buffer\n"
				 "\n";

static const char writev_help[] = "\n"
				  " writes a range of bytes from the given offset source from multiple buffers\n"
				  "\n"
				  " Example:\n"
				  " 'writev 512 1k 1k' - writes 2 kilobytes at 512 bytes into the open file\n"
				  "\n"
				  " Writes as many bytes as all the lengths together, in one request.\n"
				  " -P, -- use different pattern to fill file\n"
				  " -C, -- report statistics in a machine parsable format\n"
				  " -f, -- use Force Unit Access semantics\n"
				  " -q, -- quiet mode, do not show I/O statistics\n"
				  "\n";

static const char aio_read_help[] = "\n"
				    " asynchronously reads a range of bytes from the given offset\n"
				    "\n"
				    " Example:\n"
				    " 'aio_read -v 512 1k 1k ' - dumps 2 kilobytes read from 512 bytes into the file\n"
				    "\n"
				    " Reads beside what follows; aio_flush waits for all such requests. The command\n"
				    " has succeeded when the request has begun, whatever becomes of it.\n"
				    " -C, -- report statistics in a machine parsable format\n"
				    " -P, -- use a pattern to verify read data\n"
				    " -i, -- treat request as invalid, for exercising stats\n"
				    " -v, -- dump buffer to standard output\n"
				    " -q, -- quiet mode, do not show I/O statistics\n"
				    "\n";

static const char aio_write_help[] = "\n"
				     " asynchronously writes a range of bytes from the given offset source\n"
				     " from multiple buffers\n"
				     "\n"
				     " Example:\n"
				     " 'aio_write 512 1k 1k' - writes 2 kilobytes at 512 bytes into the open file\n"
				     "\n"
				     " Writes beside what follows; aio_flush waits for all such requests. The command\n"
				     " has succeeded when the request has begun, whatever becomes of it.\n"
				     " -P, -- use different pattern to fill file\n"
				     " -C, -- report statistics in a machine parsable format\n"
				     " -f, -- use Force Unit Access semantics\n"
				     " -i, -- treat request as invalid, for exercising stats\n"
				     " -q, -- quiet mode, do not show I/O statistics\n"
				     " -u, -- with -z, allow unmapping\n"
				     " -z, -- write zeroes without a buffer\n"
				     "\n";

static const char discard_help[] = "\n"
				   " discards a range of bytes from the given offset\n"
				   "\n"
				   " Example:\n"
				   " 'discard 512 1k' - discards 1 kilobyte from 512 bytes into the file\n"
				   "\n"
				   " Gives the space of a part of the disk back.\n"
				   " -C, -- report statistics in a machine parsable format\n"
				   " -q, -- quiet mode, do not show I/O statistics\n"
				   "\n";

static const char open_help[] = "\n"
				" opens a new file in the requested mode\n"
				"\n"
				" Example:\n"
				" 'open -n -o driver=raw /tmp/data' - opens raw data file read-write, uncached\n"
				"\n"
				" Opens the image that the commands after it work on.\n"
				" -r, -- open file read-only\n"
				" -s, -- use snapshot file\n"
				" -C, -- use copy-on-read\n"
				" -n, -- disable host cache, short for -t none\n"
				" -U, -- force shared permissions\n"
				" -k, -- use kernel AIO implementation (Linux only, prefer use of -i)\n"
				" -i, -- use AIO mode (threads, native or io_uring)\n"
				" -t, -- use the given cache mode for the image\n"
				" -d, -- use the given discard mode for the image\n"
				" -o, -- options to be given to the block driver\n";

static const char reopen_help[] =
	"\n"
	" Changes the open options of an already opened image\n"
	"\n"
	" Example:\n"
	" 'reopen -o lazy-refcounts=on' - activates lazy refcount writeback on a qcow2 image\n"
	"\n"
	" -r, -- Reopen the image read-only\n"
	" -w, -- Reopen the image read-write\n"
	" -c, -- Change the cache mode to the given value\n"
	" -o, -- Changes block driver options (cf. 'open' command)\n"
	"\n";

static const char sigraise_help[] = "\n"
				    " raises the given signal\n"
				    "\n"
				    " Example:\n"
				    " 'sigraise 15' - raises SIGTERM\n"
				    "\n"
				    " The program sends itself the signal of this number.\n"
				    "\n";

const struct cli_io_command cli_io_commands[] = {
	{
		.name = "abort",
		.run = cli_io_abort,
		.flags = CLI_IO_NO_FILE,
		.summary = "simulate a program crash using abort(3)",
	},
	{
		.name = "aio_flush",
		.run = cli_io_aio_flush,
		.summary = "completes all outstanding aio requests",
	},
	{
		.name = "aio_read",
		.run = cli_io_aio_read,
		.least = 2,
		.most = -1,
		.args = "[-Ciqv] [-P pattern] off len [len..]",
		.summary = "asynchronously reads a number of bytes",
		.help = aio_read_help,
	},
	{
		.name = "aio_write",
		.run = cli_io_aio_write,
		.least = 2,
		.most = -1,
		.flags = CLI_IO_WRITES,
		.args = "[-Cfiquz] [-P pattern] off len [len..]",
		.summary = "asynchronously writes a number of bytes",
		.help = aio_write_help,
	},
	{
		.name = "alloc",
		.run = cli_io_alloc,
		.least = 1,
		.most = 2,
		.args = "offset [count]",
		.summary = "checks if offset is allocated in the file",
	},
	{
		.name = "break",
		.run = cli_io_break,
		.least = 2,
		.most = 2,
		.args = "event tag",
		.summary = "sets a breakpoint on event and tags the stopped request as tag",
	},
	{
		.name = "close",
		.other = "c",
		.run = cli_io_close,
		.summary = "close the current open file",
	},
	{
		.name = "discard",
		.other = "d",
		.run = cli_io_discard,
		.least = 2,
		.most = -1,
		.flags = CLI_IO_WRITES,
		.args = "[-Cq] off len",
		.summary = "discards a number of bytes at a specified offset",
		.help = discard_help,
	},
	{
		.name = "flush",
		.other = "f",
		.run = cli_io_flush,
		.summary = "flush all in-core file state to disk",
	},
	{
		.name = "help",
		.other = "?",
		.run = cli_io_help,
		.most = 1,
		.flags = CLI_IO_NO_FILE,
		.args = "[command]",
		.summary = "help for one or all commands",
	},
	{
		.name = "info",
		.other = "i",
		.run = cli_io_info,
		.summary = "prints information about the current file",
	},
	{
		.name = "length",
		.other = "l",
		.run = cli_io_length,
		.summary = "gets the length of the current file",
	},
	{
		.name = "map",
		.run = cli_io_map,
		.args = "",
		.summary = "prints the allocated areas of a file",
	},
	{
		.name = "open",
		.other = "o",
		.run = cli_io_open,
		.least = 1,
		.most = -1,
		.flags = CLI_IO_NO_FILE,
		.args = "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
		.summary = "open the file specified by path",
		.help = open_help,
	},
	{
		.name = "quit",
		.other = "q",
		.run = cli_io_quit,
		.flags = CLI_IO_NO_FILE,
		.summary = "exit the program",
	},
	{
		.name = "read",
		.other = "r",
		.run = cli_io_read,
		.least = 2,
		.most = -1,
		.args = "[-abCqv] [-P pattern [-s off] [-l len]] off len",
		.summary = "reads a number of bytes at a specified offset",
		.help = read_help,
	},
	{
		.name = "readv",
		.run = cli_io_readv,
		.least = 2,
		.most = -1,
		.args = "[-Cqv] [-P pattern] off len [len..]",
		.summary = "reads a number of bytes at a specified offset",
		.help = readv_help,
	},
	{
		.name = "remove_break",
		.run = cli_io_remove_break,
		.least = 1,
		.most = 1,
		.args = "tag",
		.summary = "remove a breakpoint by tag",
	},
	{
		.name = "reopen",
		.run = cli_io_reopen,
		.most = -1,
		.args = "[(-r|-w)] [-c cache] [-o options]",
		.summary = "reopens an image with new options",
		.help = reopen_help,
	},
	{
		.name = "resume",
		.run = cli_io_resume,
		.least = 1,
		.most = 1,
		.args = "tag",
		.summary = "resumes the request tagged as tag",
	},
	{
		.name = "sigraise",
		.run = cli_io_raise,
		.least = 1,
		.most = 1,
		.flags = CLI_IO_NO_FILE,
		.args = "signal",
		.summary = "raises a signal",
		.help = sigraise_help,
	},
	{
		.name = "sleep",
		.run = cli_io_sleep,
		.least = 1,
		.most = 1,
		.flags = CLI_IO_NO_FILE,
		.summary = "waits for the given value in milliseconds",
	},
	{
		.name = "truncate",
		.other = "t",
		.run = cli_io_truncate,
		.least = 1,
		.most = 3,
		.flags = CLI_IO_WRITES,
		.args = "[-m prealloc_mode] off",
		.summary = "truncates the current file at the given offset",
	},
	{
		.name = "wait_break",
		.run = cli_io_wait_break,
		.least = 1,
		.most = 1,
		.args = "tag",
		.summary = "waits for the suspension of a request",
	},
	{
		.name = "write",
		.other = "w",
		.run = cli_io_write,
		.least = 2,
		.most = -1,
		.flags = CLI_IO_WRITES,
		.args = "[-bcCfnquz] [-P pattern | -s source_file] off len",
		.summary = "writes a number of bytes at a specified offset",
		.help = write_help,
	},
	{
		.name = "writev",
		.run = cli_io_writev,
		.least = 2,
		.most = -1,
		.flags = CLI_IO_WRITES,
		.args = "[-Cfq] [-P pattern] off len [len..]",
		.summary = "writes a number of bytes at a specified offset",
		.help = writev_help,
	},
};

const unsigned cli_io_commands_n = ARRAY_ENTRIES(cli_io_commands);
