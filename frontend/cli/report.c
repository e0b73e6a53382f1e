/* The verbs that answer with numbers: inspect, verify, bench, ops. */
#include "cli.h"
int cli_inspect(Cli *c) { (void)c; return 0; }
int cli_verify(Cli *c) { (void)c; return 0; }
int cli_bench(Cli *c) { (void)c; return 0; }
int cli_ops(Cli *c) { (void)c; return 0; }
