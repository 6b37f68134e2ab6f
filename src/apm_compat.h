/*
 * apm_compat.h
 *	  Where PostgreSQL's major versions differ.
 *
 * Written for 15; 14 and 16 to 18 are meant to need changes here and nowhere else.
 * This is the only file that looks at PG_VERSION_NUM.
 */
#ifndef APM_COMPAT_H
#define APM_COMPAT_H

#if PG_VERSION_NUM < 140000
#error "apm needs PostgreSQL 14 or later"
#endif

/* 15 moved the questions about recovery out of xlog.h. */
#include "access/xlog.h"
#if PG_VERSION_NUM >= 150000
#include "access/xlogrecovery.h"
#endif

/* 15 made the names of an extension's settings its own. */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* 17 gave a process's number a variable of its own.  Needs storage/proc.h. */
#if PG_VERSION_NUM < 170000
#define apm_my_procno() (MyProc->pgprocno)
#else
#define apm_my_procno() (MyProcNumber)
#endif

/* 16 renamed the setting that makes everything parallel that can be.  Needs optimizer/optimizer.h. */
#if PG_VERSION_NUM < 160000
#define apm_parallel_is_forced() (force_parallel_mode != FORCE_PARALLEL_OFF)
#else
#define apm_parallel_is_forced() (debug_parallel_query != DEBUG_PARALLEL_OFF)
#endif

#endif /* APM_COMPAT_H */
