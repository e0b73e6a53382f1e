/* What model.c and modelloop.c share: statements in braces, environments, loops over a sequence. */
#ifndef GD_MODELLOOP_H
#define GD_MODELLOOP_H
#include "model.h"

Env *env_new(Desc *d, Env *up);
void env_bind(Desc *d, Env *e, const char *name, Opnd o);
/* The tokens between { and }: the first, and *end, the } itself; goes behind it. -1 after an error. */
int model_braces(Desc *d, int *end);
/* Carries out the statements between two tokens, and comes back. */
void model_statements(Desc *d, int from, int end);
int model_targets(const Tok *t); /* names that a statement here assigns to; 0: none */
/* Behind the word `for`: x in EXPRESSION { ... }. collect: the result is that of every iteration, along the axis gone over;
   otherwise that of the last. NONE: it has none. */
Opnd model_for(Desc *d, bool collect);
#endif
