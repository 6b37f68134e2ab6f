/*
 * unicode.h
 *	  Text of the server as the UTF-8 that is hashed and sealed, and back.
 *
 * A database may be in any encoding, and may be dumped and restored into another.  What
 * is hashed or sealed is therefore always UTF-8.  No error names a character of the text;
 * what says which text it was ("the pid").
 */
#ifndef APM_UNICODE_H
#define APM_UNICODE_H

#include "postgres.h"

#include "core/bytes.h"

/* Append text of the server's encoding as UTF-8; raises 22021 where it has no form in UTF-8. */
extern void apm_utf8_put(ApmBuf *out, ApmSlice text, const char *what);
/* The same in Unicode's normal form NFC, so that two spellings of one name are one. */
extern void apm_nfc_put(ApmBuf *out, ApmSlice text, const char *what);
/* Append UTF-8 in the server's encoding; raises 22P05 where that cannot express it. */
extern void apm_server_text_put(ApmBuf *out, ApmSlice utf8, const char *what);

#endif /* APM_UNICODE_H */
