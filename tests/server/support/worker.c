/* A background worker that waits, and says nothing of what it does: its state in pg_stat_activity is NULL. */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(start_worker);

PGDLLEXPORT void worker_main(Datum database);

/* start_worker(library text, in_transaction boolean) */
Datum
start_worker(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	pid_t		pid;
	bool		in_transaction = PG_GETARG_BOOL(1);

	strlcpy(worker.bgw_name, "worker of a test", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "worker of a test", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, DatumGetCString(DirectFunctionCall1(textout, PG_GETARG_DATUM(0))), sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "worker_main", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	memcpy(worker.bgw_extra, &in_transaction, sizeof(bool));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle) ||
		WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
		elog(ERROR, "the worker does not start");
	PG_RETURN_INT32(pid);
}

void
worker_main(Datum database)
{
	bool		in_transaction;

	memcpy(&in_transaction, MyBgworkerEntry->bgw_extra, sizeof(bool));
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database), InvalidOid, 0);
	if (in_transaction)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
	}
	for (;;)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
