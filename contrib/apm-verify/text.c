/*
 * text.c
 *	  Files read, bytes as text, the progress bar.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "verify.h"

#define CHUNK 65536
#define BAR_WIDTH 30
#define REDRAW_MS 200

static bool
read_stream(FILE *file, const char *name, ApmBuf *out)
{
	size_t got;

	do
	{
		if (out->len > TEXT_MAX_LEN || !apm_buf_reserve(out, CHUNK))
		{
			(void) cannot("%s is too large", name);
			return false;
		}
		got = fread(out->data + out->len, 1, CHUNK, file);
		out->len += got;
	} while (got > 0);
	if (ferror(file))
	{
		(void) cannot("cannot read %s: %s", name, strerror(errno));
		return false;
	}
	return true;
}

bool
read_file(const char *name, ApmBuf *out)
{
	FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "rb");
	bool read;

	if (file == NULL)
	{
		(void) cannot("cannot open %s: %s", name, strerror(errno));
		return false;
	}
	read = read_stream(file, name, out);
	if (file != stdin)
		fclose(file);
	return read;
}

/* A line prints a few at most. */
static char *
next_text(size_t size)
{
	static char texts[4][256];
	static int next = 0;

	next = (next + 1) % 4;
	return size <= sizeof(texts[0]) ? texts[next] : NULL;
}

const char *
hex_of(const void *data, size_t len)
{
	char *text = next_text(2 * len + 1);

	if (text == NULL)
		return "";
	apm_hex_encode(data, len, text);
	return text;
}

const char *
uuid_of(const ApmUuid *uuid)
{
	char hex[2 * APM_UUID_LEN + 1];
	char *text = next_text(40);

	apm_hex_encode(uuid->bytes, APM_UUID_LEN, hex);
	snprintf(text, 40, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
	return text;
}

static uint64_t
now_ms(void)
{
	struct timespec now = {0};

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

void
progress_begin(Progress *p, const char *what, uint64_t total)
{
	memset(p, 0, sizeof(*p));
	p->shown = isatty(STDERR_FILENO) && total > 0;
	p->what = what;
	p->total = total;
	p->start_ms = p->shown ? now_ms() : 0;
}

void
progress_at(Progress *p, uint64_t done)
{
	char bar[BAR_WIDTH + 1];
	uint64_t now;
	uint64_t filled;
	uint64_t left_s = 0;

	if (!p->shown)
		return;
	now = now_ms();
	if (now - p->last_ms < REDRAW_MS)
		return;
	p->last_ms = now;
	done = done < p->total ? done : p->total;
	filled = done * BAR_WIDTH / p->total;
	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', filled);
	bar[BAR_WIDTH] = '\0';
	if (done > 0)
		left_s = (now - p->start_ms) * (p->total - done) / done / 1000;
	fprintf(stderr, "\r%-22s [%s] %3" PRIu64 "%%  %" PRIu64 ":%02" PRIu64 " left ", p->what, bar,
			done * 100 / p->total, left_s / 60, left_s % 60);
	fflush(stderr);
}

/* The line is empty again. */
void
progress_end(Progress *p)
{
	if (p->shown && p->last_ms > 0)
		fprintf(stderr, "\r%80s\r", "");
}
