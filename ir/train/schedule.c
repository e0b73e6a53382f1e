/* Schedules: the factor of the base rate as a function of the step, in f64 so that any step number is exact. */
#include "recipe.h"

typedef struct ScheduleRow {
    Row row;
    RowLine lines[ROW_LINES];
} ScheduleRow;

static const ScheduleRow rows[] = {
    {.row = {"constant none", {{0}}, "1"}, .lines = {{"factor", "1", NULL}}},
};
const Row *schedule_row(int i) { return i < (int)(sizeof rows / sizeof *rows) ? &rows[i].row : NULL; }

Value *schedule_build(Graph *g, const Recipe *r) {
    Scope s;
    const Recipe constant = {.name = "constant"};
    if (!scope_open(&s, g, "schedule", r->name ? r : &constant, g->train && g->train->torch)) return NULL;
    s.dt = F64;
    return build_cast(g, scope_lines(&s, ((const ScheduleRow *)s.row)->lines, ROW_LINES), F32);
}
