/* A table access method that does what heap does, and is not heap. */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "catalog/pg_am_d.h"
#include "fmgr.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(other_handler);

static TableAmRoutine other;

/* heap_getnext() refuses to scan other tables than heap's, and the index of a TOAST table is made by a scan. */
static Oid
toast_access_method(Relation relation)
{
	return HEAP_TABLE_AM_OID;
}

Datum
other_handler(PG_FUNCTION_ARGS)
{
	other = *GetHeapamTableAmRoutine();
	other.relation_toast_am = toast_access_method;
	PG_RETURN_POINTER(&other);
}
