/*
 * make_vectors.c
 *	  Writes test/vectors: examples of everything that doc/format.md describes, for whoever writes another
 *	  implementation.  "make vectors" runs it.
 *
 * What is drawn at random (keys, nonces, signatures) differs each time, so the vectors in the tree are those of one
 * run.  test_vectors.c holds the C code against them, check_vectors.py the Python verifier.
 */
#include "vectors.h"

int
main(int argc, char **argv)
{
	if (argc != 2)
	{
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	return make_transactions(argv[1]) && make_sealed(argv[1]) && make_contract(argv[1]) &&
				   make_trees(argv[1]) && make_ledger(argv[1])
			   ? EXIT_SUCCESS
			   : EXIT_FAILURE;
}
