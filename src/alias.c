/*
 * librbytea.so, the name that the original had: shared_preload_libraries = 'librbytea' loads rbytea.
 *
 * A library of its own and no link to rbytea.so: PostgreSQL knows a library that is loaded by its name, and by the
 * inode of its file where the name is another one. After an upgrade rbytea.so is another file, and a server that had
 * preloaded a link would load the new one into its sessions beside the old one. This way the server has loaded rbytea.so
 * by its own name.
 */
#include "postgres.h"
#include "fmgr.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	load_file("$libdir/rbytea", false);
}
