/*
 * paperkey.h
 *	  The two keys of the paper's profile.
 *
 * They are no keys of this server: whoever studies the profile puts them where its keys
 * are, as "paper-rsa.pem" (PKCS#8, 2048 bits) and "paper-aes.key" (32 bytes).  apm_keygen()
 * makes none, and a server without them lacks nothing.
 */
#ifndef APM_PAPERKEY_H
#define APM_PAPERKEY_H

#include "postgres.h"

#include "core/envelope.h"

/* Read anew each time; *rsa is freed by the caller, or with the current memory context.  Raises AP002, AP003. */
extern void apm_key_paper(uint8 aes[32], ApmRsa **rsa);

#endif /* APM_PAPERKEY_H */
