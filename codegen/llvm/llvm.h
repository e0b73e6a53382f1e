/* The inside of the LLVM back end: what its files share.

   A Gen is one program on its way to machine code. Its nests are spread over Units, modules in contexts of
   their own, so that several threads can compile them; unit 0 also holds `run` and the tables. All IR is
   built by one thread.

   A Fn is a function being built. Its vars and bufs say what a Var and the root of a Buf are there: `run`
   gets them from its arguments, the function of a nest (and of a chunk of a parallel loop) as parameters, one
   a variable or buffer it uses, so that LLVM can be told that they do not overlap.

   Values are only built in the block where the builder stands; statements are structured, so what was
   computed in a scope holds for the rest of it. The memo of expressions relies on this. */
#ifndef GD_LLVM_H
#define GD_LLVM_H
#include "codegen.h"
#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

typedef LLVMValueRef Val;

typedef struct Unit {
    LLVMContextRef cx;
    LLVMModuleRef m;
    LLVMBuilderRef at, entry; /* where code goes on; where the open function's allocas stand */
    LLVMMemoryBufferRef object;
    char *error;
} Unit;

/* What an expression became: valid in function fn and, when stmt is not 0, in that statement only. */
typedef struct Memo { Val v; uint32_t fn, stmt; } Memo;

typedef struct Gen {
    Ctx *c;
    Program *p;
    const EmitOptions *o;
    const char *prefix;
    LLVMTargetMachineRef tm;
    LLVMTargetDataRef layout;
    const char *tune; /* a processor to order instructions for, or NULL */
    bool linked;    /* the units' objects are linked here */
    bool jit;       /* for this process: constants are where the program has them */
    bool has_half;    /* the machine converts f16 */
    bool keeps;       /* merged logic and selections are wrong: docs/numerics.md */
    bool has_minimum; /* the machine's min and max propagate NaN and order zeros */
    Unit *units;
    int nunits;
    Map *unit_of;   /* S_NEST -> the Unit its function goes to */
    Memo *memo;     /* by Expr.id */
    uint32_t nmemo;
    VEC(struct { uint32_t id; Memo old; }) trail;
    uint32_t fns, stmts;
    Blob blob;           /* the constants, but for the JIT */
    bool extern_weights; /* the blob is one more entry of ins */
    bool apart;          /* the blob goes to an object of its own, to be linked with the units' */
    Map *slots;     /* roots whose storage changes: HEAP, and OUT with an ALLOC; to the place of the pointer */
    bool heap;      /* there are such */
    VEC(const char *) nests; /* names, for the profile */
} Gen;

typedef enum FnKind { FN_RUN, FN_NEST, FN_CHUNK } FnKind;
typedef struct Fn Fn;
struct Fn {
    Gen *g;
    Unit *u;
    FnKind kind;
    Val f, entry_end;
    LLVMBuilderRef b;
    LLVMBasicBlockRef resume; /* where the unit's builder stood before */
    const char *name;
    uint32_t serial;
    Map *vars, *bufs;  /* Var* and root Buf* to Val */
    bool touched;      /* the expression being built read memory or a symbol that may change */
    Val failed, index; /* FN_CHUNK: the first failed check, and the iteration that runs */
    Val syms, outs, arena, heap, weights; /* FN_RUN */
    int parallel;      /* loops of this function outlined so far */
};

/* ---- type.c ---- */
LLVMTypeRef type_reg(Unit *u, Type t); /* of a value */
LLVMTypeRef type_mem(Unit *u, Type t); /* of the same in memory: bool takes a byte */
LLVMTypeRef type_int(Unit *u, int bits);
LLVMTypeRef type_ptr(Unit *u);
LLVMTypeRef type_size(Gen *g, Unit *u); /* size_t of the target */
Val const_int(Unit *u, int64_t v);      /* i64 */
Val const_i32(Unit *u, int v);
Val const_bits(Unit *u, Type t, uint64_t bits);
Val const_splat(Val v, int lanes);
Val const_lanes(Unit *u, Type t);
Val intrinsic(Fn *f, const char *name, int ntypes, LLVMTypeRef *types, int n, Val *args);
Val external(Unit *u, const char *name, LLVMTypeRef type); /* a function of the runtime or of C's library */
void fn_attribute(Unit *u, Val f, unsigned at, const char *name, uint64_t v);
void fn_attribute_text(Unit *u, Val f, const char *name, const char *value);
static inline int type_bits(DType t) { return 8 * gd_dtypes[t].bytes; }
static inline bool type_signed(DType t) { return gd_dtypes[t].kind == DK_INT; }

/* ---- scalar.c, cast.c ---- */
Val gen_scalar(Fn *f, Expr *e, Val *args);
Val gen_cast(Fn *f, Val v, Type from, Type to);
Val wrap_small(Fn *f, Val v, Type t); /* to the width of i4, u4, i2, u2 */

/* ---- small.c: f32 from and to floats of 16 bits and less ---- */
Val small_widen(Fn *f, Val v, Type from);
Val small_narrow(Fn *f, Val v, Type to);

/* ---- expr.c ---- */
Val gen_expr(Fn *f, Expr *e);
Val gen_splat(Fn *f, Val v, int lanes);
int memo_mark(Gen *g);
void memo_release(Gen *g, int mark);

/* ---- mem.c ---- */
Val gen_load(Fn *f, Expr *e);
void gen_store(Fn *f, Stmt *s);
Val buf_pointer(Fn *f, Buf *root);
Val gen_alloca(Fn *f, LLVMTypeRef t, const char *name);
void gen_decl(Fn *f, Buf *b);

/* ---- stmt.c ---- */
void gen_block(Fn *f, Block *b);
/* Iterations from..to-1 in order; enters: there is at least one. */
void gen_loop(Fn *f, Stmt *s, Val from, Val to, bool enters);
void gen_check(Fn *f, Val ok, int status);
LLVMBasicBlockRef new_block(Fn *f, const char *name);

/* ---- func.c ---- */
void fn_begin(Fn *f, Gen *g, Unit *u, FnKind kind, const char *name, LLVMTypeRef type);
void fn_end(Fn *f);
void gen_nest(Fn *f, Stmt *s);
void gen_parallel(Fn *f, Stmt *s);

/* ---- captures.c ---- */
typedef struct Captures { VEC(Var *) vars; VEC(Buf *) bufs; bool checks; } Captures;
void captures_of(Gen *g, Block *b, Captures *u); /* what the block needs from outside; bufs are roots */
bool bufs_disjoint(Gen *g, const Buf *a, const Buf *b);

/* ---- run.c ---- */
void gen_run(Gen *g);
Val run_arena_bytes(Fn *f); /* i64; -1: more than there can be */
void run_set_symbol(Fn *f, Var *v, Val to);
void run_alloc(Fn *f, Buf *b);
void run_free(Fn *f, Buf *b);
void run_move(Fn *f, Buf *to, Buf *from);

/* ---- table.c, profile.c ---- */
void gen_table(Gen *g);
void gen_main(Gen *g);
Val profile_start(Fn *f);
void profile_stop(Fn *f, const char *nest, Val start);
void gen_profile(Gen *g);

/* ---- weights.c ---- */
void weights_place(Gen *g);
int weights_port(const Gen *g);
Val weights_pointer(Fn *f, Buf *root);

/* ---- machine.c ---- */
const char *machine_cpu(const Target *t);
Gen *gen_open(Program *p, const EmitOptions *o, bool jit, int nunits);
void gen_build(Gen *g);
void gen_optimize(Gen *g, Unit *u);
void gen_compile(Gen *g, LLVMCodeGenFileType kind); /* every unit to its memory buffer */
void gen_close(void *gen);

/* ---- jit.c ---- */
void jit_load(Program *p, const EmitOptions *o, Loaded *out);
#endif
