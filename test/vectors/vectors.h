/*
 * vectors.h
 *	  How an example of a format is written down, and who writes which.
 *
 * A file of vectors is a JSON array with an object a line, whose members are strings, whole numbers and arrays of
 * strings; bytes are in hexadecimal.
 */
#ifndef APM_TEST_VECTORS_H
#define APM_TEST_VECTORS_H

#include "core/json.h"
#include "proofs.h"

/* Each writes its files into the directory; false if something did not go as it should. */
extern bool make_transactions(const char *directory);
extern bool make_sealed(const char *directory);
extern bool make_contract(const char *directory);
extern bool make_trees(const char *directory);
extern bool make_ledger(const char *directory);

/* Writes a text, and its last line's end if that lacks one. */
static inline void
write_file(const char *directory, const char *name, ApmSlice text)
{
	bool ended = text.len > 0 && text.data[text.len - 1] == '\n';
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	if (file == NULL || fwrite(text.data, 1, text.len, file) != text.len ||
		(!ended && fputc('\n', file) == EOF) || fclose(file) != 0)
	{
		fprintf(stderr, "make_vectors: cannot write %s\n", path);
		exit(2);
	}
}

/* An array of objects, one a line. */

static inline void
begin(ApmBuf *out, const char *name)
{
	apm_put_raw(out, out->len == 0 ? "[\n" : ",\n", 2);
	apm_json_begin(out);
	apm_json_put_text(out, "name", name);
}

static inline void
finish(ApmBuf *out, const char *directory, const char *file)
{
	apm_put_raw(out, "\n]\n", 3);
	CHECK_OK(apm_buf_status(out));
	write_file(directory, file, slice_of(out));
	apm_buf_reset(out);
}

static inline void
put_hex(ApmBuf *out, const char *name, ApmSlice bytes)
{
	apm_json_put_hex(out, name, bytes.data, bytes.len);
}

static inline void
put_digest(ApmBuf *out, const char *name, const ApmDigest *digest)
{
	apm_json_put_hex(out, name, digest->bytes, APM_DIGEST_LEN);
}

static inline void
put_path(ApmBuf *out, const char *name, const ApmPath *path)
{
	apm_json_put_digests(out, name, path->nodes, path->count);
}

#endif /* APM_TEST_VECTORS_H */
