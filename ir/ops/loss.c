/* Losses of classification, in composite text: the class axis is 1, the target picks one class at each place.
   What is stored in fewer bits than f32 is computed in f32. */
#include "build.h"

typedef struct Loss {
    Graph *g;
    Map *values, *attrs;
} Loss;

static Value *text(const Loss *s, const char *formula) {
    return graph_text(s->g, formula, s->values, s->attrs);
}
static void name(Loss *s, const char *key, Value *v) { map_puts(s->values, key, v); }
static Value *wide(Graph *g, Value *x) { return build_cast(g, x, x->dt == F64 ? F64 : F32); }

/* Elements of v (of x's shape, or a vector over the classes) at the target's class: no class outside gives 0.
 */
static Value *pick(Loss *s, Value *v) {
    const int64_t classes = 1;
    name(s, "v", v);
    return build_reduce(s->g, "reduce_sum", text(s, "here ? v : 0"), 1, &classes, false);
}

static Value *sum_all(Graph *g, Value *v) {
    int64_t axes[MAX_RANK];
    for (int i = 0; i < v->rank; i++) axes[i] = i;
    return v->rank > 0 ? build_reduce(g, "reduce_sum", v, v->rank, axes, false) : v;
}

/* -logp[target] * weight[target], then the reduction; a target equal to ignore_index counts as nothing. */
static Value *picked_loss(Import *n, Value *logp, DType t) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Value *target = build_cast(g, n->in[1], I64), *weight = import_in(n, 2);
    const char *reduction = import_string(n, "reduction", "mean");
    bool ignores = import_has(n, "ignore_index"), mean = !strcmp(reduction, "mean");
    if (!mean && strcmp(reduction, "sum") && strcmp(reduction, "none")) {
        import_error(n, 204, "none, sum or mean", "attribute reduction: \"%s\"",
                     gd_escape(c, reduction, strlen(reduction)));
        return NULL;
    }
    if (logp->rank < 2 || target->rank != logp->rank - 1) {
        if (logp->rank >= 0 && target->rank >= 0)
            import_error(n, 301, NULL, "the input has %d axes and the target %d, not one less", logp->rank,
                         target->rank);
        return NULL;
    }
    Loss s = {g, map_new(c), map_new(c)};
    name(&s, "target", target);
    name(&s, "here",
         make(g, "equal", build_unsqueeze(g, target, 1), build_iota(g, I64, logp->rank, logp->dim, 1)));
    name(&s, "loss", pick(&s, logp));
    name(&s, "loss", text(&s, "-loss"));
    Value *weights = NULL;
    if (weight && weight->rank == 1) {
        Expr *dim[MAX_RANK];
        for (int i = 1; i < logp->rank; i++) dim[i - 1] = i == 1 ? weight->dim[0] : expr_int(c, 1);
        weights = pick(&s, build_reshape(g, build_cast(g, weight, logp->dt), logp->rank - 1, dim));
    }
    if (ignores) {
        name(&s, "ignored",
             make(g, "equal", target, const_scalar(g, I64, (double)import_int(n, "ignore_index", 0))));
        name(&s, "one", weights ? weights : const_scalar(g, logp->dt, 1));
        weights = text(&s, "ignored ? 0 : one");
    }
    if (weights) {
        name(&s, "weights", weights);
        name(&s, "loss", text(&s, ignores ? "ignored ? 0 : loss * weights" : "loss * weights"));
    }
    Value *loss = map_gets(s.values, "loss");
    if (strcmp(reduction, "none")) loss = sum_all(g, loss);
    if (mean)
        loss = make(g, "div", loss,
                    weights ? sum_all(g, weights) : build_scalar(g, logp->dt, value_count(c, target)));
    return build_cast(g, loss, t);
}

static void import_nll(Import *n) {
    if (!import_need(n, 2, 3) || n->in[0]->rank < 0 || n->in[1]->rank < 0) return;
    n->out[0] = picked_loss(n, wide(n->g, n->in[0]), n->in[0]->dt);
}

static void import_sce(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 2, 3) || n->in[0]->rank < 0 || n->in[1]->rank < 0) return;
    Value *x = n->in[0];
    if (x->rank < 2) {
        import_error(n, 301, NULL, "scores of %d axes", x->rank);
        return;
    }
    Loss s = {g, map_new(g->c), map_new(g->c)};
    name(&s, "x", wide(g, x));
    Value *logp = text(&s, "d = x - detach(reduce_max(x, axes=[1])); d - log(reduce_sum(exp(d), axes=[1]))");
    n->out[0] = picked_loss(n, logp, x->dt);
    if (n->nout > 1) n->out[1] = build_cast(g, logp, x->dt);
}

const Op gd_ops_loss[] = {
    {.kind = OP_BUILD,
     .onnx = "NegativeLogLikelihoodLoss",
     .import = import_nll,
     .doc = "Minus the target's log probability, weighted by class, and its sum or weighted mean."},
    {.kind = OP_BUILD,
     .onnx = "SoftmaxCrossEntropyLoss",
     .import = import_sce,
     .doc = "The same of log softmax of scores, from their differences to the largest."},
};
const int gd_ops_loss_n = sizeof gd_ops_loss / sizeof *gd_ops_loss;
