/*
 * verify.h
 *	  What the parts of apm-verify share.
 *
 * Each command prints one line, its verdict, and answers with the program's exit status.
 */
#ifndef APM_VERIFY_H
#define APM_VERIFY_H

#include <stdint.h>
#include <stdio.h>

#include "core/bytes.h"
#include "core/head.h"

/* Exit status. */
typedef enum Verdict
{
	VERDICT_GOOD = 0,
	VERDICT_FAULT = 1, /* it is not what it claims to be */
	VERDICT_NONE = 2   /* nothing can be said: not readable, not such a file, no memory */
} Verdict;

/* Prints "apm-verify: ..." to stderr; always VERDICT_NONE. */
extern Verdict cannot(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Digests, proofs: texts of at most so many bytes. */
#define TEXT_MAX_LEN (192u * 1024 * 1024)

/* Reads a file, or stdin for "-", into *out; false after saying why not. */
extern bool read_file(const char *name, ApmBuf *out);
/* Reads a digest and checks it. */
extern Verdict read_head(const char *name, ApmHead *out);

extern Verdict verify_head(const char *name);
extern Verdict verify_proof(const char *name, const char *head_name);
extern Verdict verify_consistency(const char *name, const char *old_name, const char *new_name);
/* head_name may be NULL */
extern Verdict verify_ledger(const char *name, const char *head_name);

/* A bar on stderr, if that is a terminal. */
typedef struct Progress
{
	bool shown;
	const char *what;
	uint64_t total;
	uint64_t last_ms; /* when it was drawn last */
	uint64_t start_ms;
} Progress;

extern void progress_begin(Progress *p, const char *what, uint64_t total);
extern void progress_at(Progress *p, uint64_t done);
extern void progress_end(Progress *p);

/* A digest or an id in hexadecimal, in one of a few static buffers. */
extern const char *hex_of(const void *data, size_t len);
extern const char *uuid_of(const ApmUuid *uuid);

#endif /* APM_VERIFY_H */
