#include "postgres.h"
#include "executor/spi.h"
#include "worker/worker.h"
static int turn(void) { apm_turn_begin("looking around"); SPI_execute("select count(*) from apm.queue", false, 0); apm_turn_commit_async(); return APM_TURN_IDLE; }
#define M(f,k) extern PGDLLEXPORT void f(Datum); void f(Datum a) { static const ApmWorkerDesc d = {.kind=k,.turn=turn}; apm_worker_run(&d,a); }
M(apm_network_server_main, APM_WORKER_NETWORK)
M(apm_miner_main, APM_WORKER_MINER)
M(apm_cloud_main, APM_WORKER_CLOUD)
