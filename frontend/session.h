/* What the files of the C API share: the object, and a compilation that is under way. */
#ifndef GD_SESSION_H
#define GD_SESSION_H
#include "codegen.h"
#include "frontend.h"
#include "gradc.h"
#include "passes.h"

enum { MAX_LIST = 64 };
/* What options say of training, over what the description says. */
typedef struct TrainSettings {
    const char *loss, *optimizer, *schedule, *output;
    const char *metrics[MAX_LIST], *freeze[MAX_LIST];
    int nmetrics, nfreeze;
    int torch;        /* 1, -1: keras, 0: not said */
    bool strict;
    int64_t batch, accumulate;
    double clip_value, clip_norm, clip_global;
    TrainPart part;   /* of the actions that look at one program */
} TrainSettings;
typedef struct Settings {
    const char *backend, *target, *prefix, *params;
    const char *dims[MAX_LIST + 1], *skip[MAX_LIST + 1];
    int ndims, nskip;
    bool fixed, symbolic, time_passes, profile;
    int opt, threads; /* threads 0: as many as there are */
    Numerics numerics;
    int weights;      /* Weights, -1: not given */
    Budget budget;
    const char *stop_after, *print_after, *dump_dir;
    TrainSettings train;
} Settings;

typedef struct Jitted { struct Jitted *next; Ctx *c; Program *program; Loaded loaded; } Jitted;
typedef struct Kept { struct Kept *next; char text[]; } Kept;

struct Gradc {
    Settings set;
    const char *path;
    Ctx *last;        /* of the last action: its problems and what it handed out live there */
    bool exhausted;   /* not even a Ctx could be opened */
    Text *printed, *times;
    Jitted *jitted;
    Kept *kept;       /* strings of options */
    void (*progress)(void *arg, const char *stage);
    void *watcher;
};

/* A compilation under way: everything lives in c. */
typedef struct Build {
    Gradc *g;
    Ctx *c;
    const Target *target;
    PassOptions pass;
    FrontOptions front;
    FrontFile file;
    Graph *graph;     /* NULL for loop IR */
    Program *program;
} Build;

/* Opens a Ctx for an action and runs body in it. */
int session_run(Gradc *g, void (*body)(Ctx *, void *), void *arg);
/* Keeps a copy of s as long as g; NULL when there is no memory. */
const char *session_keep(Gradc *g, const char *s);

/* What an action that checks a model ends with: 3 when the model was read, but is not what was asked for. */
int session_check_status(const Gradc *g, int status, bool read);
void build_begin(Build *b, Gradc *g, Ctx *c); /* target and options */
void build_part(Build *b, TrainPart part);    /* which program of a model that trains; build_begin: the option's */
void build_read(Build *b);                    /* the file: graph or program */
void build_passes(Build *b);                  /* program; NULL when stop_after is a graph pass */
void build_finish(Build *b);                  /* the same, and all passes must have run */
void session_train(Ctx *c, Graph *g, const TrainSettings *o); /* what options say of training goes into g->train */
/* The rows of the table that an input of whole numbers chooses from; 0: it chooses none, or their number is open. */
int64_t session_table_rows(const Graph *g, const Value *in);
bool build_openmp(const Build *b);
void build_load(Build *b, const char *backend, Loaded *out); /* into this process */
Emit session_emit(Ctx *c, const char *emit, const char *out);          /* what --emit, or the end of out's name, asks for */
const char *session_backend(const Build *b, Emit kind);                /* who makes such a file */
const char *session_directory(Build *b, const char *out);              /* of C sources; out may end in .c, which sets the prefix */
/* Loads OpenMP and tells it; n 0: as many threads as it finds. The number that will run. */
int session_threads(int n);
double session_now(void);
GD_NORETURN void session_fail(Ctx *c, const GradcError *e);
/* The table of a program's ports, for what only asks for those: no run. */
const GradcProgram *session_ports(const Program *p);
void session_count(Program *p); /* NestInfo.macs, of a program fresh from lowering */
double session_macs(Program *p);  /* their sum */
const NestInfo *session_nest(Program *p, int i); /* in the order of the profile; NULL past the last */
#endif
