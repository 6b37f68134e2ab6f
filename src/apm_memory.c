/*
 * apm_memory.c
 *	  The core's memory, taken from PostgreSQL's memory contexts.
 *
 * The core asks for memory with a malloc-like pair that answers NULL and never jumps.
 * In the server the caller may jump, though, and then nobody calls release: the memory
 * context is reset, and with plain palloc keys and plaintext would stay readable in
 * freed memory.  PostgreSQL can call back before a context is reset, but cannot
 * forget a callback again, so that one cannot be registered for each block.  Instead
 * the first secret block of a context registers one callback, whose argument is the
 * list of that context's living secret blocks.  The list is found again by looking for
 * our function among the context's callbacks, which are few.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "apm_memory.h"
#include "core/bytes.h"

/* the living secret blocks of one memory context, allocated in it */
typedef struct ApmSecretList
{
	MemoryContextCallback callback;
	dlist_head blocks;
} ApmSecretList;

/* what stands before the bytes that the core sees */
typedef struct ApmBlockHead
{
	dlist_node node; /* in the context's list, if secret */
	Size size;		 /* of the core's bytes */
	bool secret;
} ApmBlockHead;

#define HEAD_SIZE MAXALIGN(sizeof(ApmBlockHead))
#define BYTES_OF(head) ((void *) ((char *) (head) + HEAD_SIZE))

static MemoryContext process_context = NULL;

/* The context is about to be reset or deleted; its memory is still there. */
static void
wipe_list(void *arg)
{
	ApmSecretList *list = arg;
	dlist_iter iter;

	dlist_foreach(iter, &list->blocks)
	{
		ApmBlockHead *head = dlist_container(ApmBlockHead, node, iter.cur);

		apm_wipe(BYTES_OF(head), head->size);
	}
	dlist_init(&list->blocks);
}

/* The secret list of the current context, made if need be; NULL for no memory. */
static ApmSecretList *
current_list(void)
{
	MemoryContextCallback *callback;
	ApmSecretList *list;

	for (callback = CurrentMemoryContext->reset_cbs; callback != NULL; callback = callback->next)
	{
		if (callback->func == wipe_list)
			return callback->arg;
	}

	list = palloc_extended(sizeof(ApmSecretList), MCXT_ALLOC_NO_OOM | MCXT_ALLOC_ZERO);
	if (list == NULL)
		return NULL;
	dlist_init(&list->blocks);
	list->callback.func = wipe_list;
	list->callback.arg = list;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &list->callback);
	return list;
}

static void *
context_alloc(size_t size, bool secret)
{
	ApmSecretList *list = NULL;
	ApmBlockHead *head;

	if (size > MaxAllocHugeSize - HEAD_SIZE)
		return NULL;
	if (secret && (list = current_list()) == NULL)
		return NULL;

	head = palloc_extended(HEAD_SIZE + size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (head == NULL)
		return NULL;
	head->size = size;
	head->secret = secret;
	if (secret)
		dlist_push_tail(&list->blocks, &head->node);
	return BYTES_OF(head);
}

static void
context_release(void *ptr)
{
	ApmBlockHead *head;

	if (ptr == NULL)
		return;
	head = (ApmBlockHead *) ((char *) ptr - HEAD_SIZE);
	if (head->secret)
	{
		dlist_delete(&head->node);
		apm_wipe(ptr, head->size);
	}
	pfree(head);
}

static void
wipe_at_exit(int code, Datum arg)
{
	if (process_context != NULL)
		MemoryContextDelete(process_context);
	process_context = NULL;
}

MemoryContext
apm_process_context(void)
{
	if (process_context == NULL)
	{
		process_context = AllocSetContextCreate(TopMemoryContext, "apm", ALLOCSET_DEFAULT_SIZES);
		on_proc_exit(wipe_at_exit, (Datum) 0);
	}
	return process_context;
}

void
apm_memory_init(void)
{
	static const ApmAllocator allocator = {context_alloc, context_release};

	apm_core_set_allocator(&allocator);
}
