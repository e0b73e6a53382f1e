/* The cost model of register tiles: how many rows of how many vectors one reduction keeps in registers.

   A tile of r rows and v vectors does r * v fused multiply-adds a step on r + v loads. Two of either start in a cycle, and an
   fma takes 4, so 8 must be under way at once. Registers hold the accumulators, one step's vectors and a spare. What the
   sizes leave over is computed by smaller, slower tiles: the sum over all parts decides. */
#include "tile.h"

enum { LATENCY = 8, ASSUMED = 64, MOST_VECTORS = 8, MOST_ROWS = 28,
       LANES_FROM_L2 = 3 /* in half a cycle */ };

int64_t trip_guess(const Expr *trip) {
    int64_t k;
    return is_int(trip, &k) ? k : ASSUMED;
}

/* Half cycles of one step of a tile. far: half cycles that a vector takes on its way from L2; 0: they lie in L1. */
static double step_cost(int64_t rows, int64_t vectors, double far) {
    double fmas = (double)(rows * vectors), loads = (double)(rows + vectors), moved = far * (double)vectors;
    double most = fmas > loads ? fmas : loads;
    if (moved > most) most = moved;
    return (most > LATENCY ? most : LATENCY) + 1; /* counting and branching */
}

/* All parts of axes of `a` rows (and `b` rows), tile ra x rb. */
static double rows_cost(int64_t a, int64_t ra, int64_t b, int64_t rb, int64_t v, double far) {
    int64_t fa = a / ra, la = a % ra, fb = b / rb, lb = b % rb;
    double cost = (double)(fa * fb) * step_cost(ra * rb, v, far);
    if (la) cost += (double)fb * step_cost(la * rb, v, far);
    if (lb) cost += (double)fa * step_cost(ra * lb, v, far);
    if (la && lb) cost += step_cost(la * lb, v, far);
    return cost;
}

typedef struct Choice { double cost; int vectors; int64_t ra, rb; } Choice;

static void consider(Choice *best, const Machine *m, int64_t total, int v, int64_t a, int64_t ra, int64_t b, int64_t rb,
                     int64_t panel, int64_t each) {
    if (ra * rb * v * each + v + (v > 1) > m->registers && ra * rb * v > 1) return;
    int64_t full = total / v, left = total % v;
    double far = panel * v > m->l1 * 3 / 4 && (a > ra || b > rb) ? (double)m->lanes / LANES_FROM_L2 : 0;
    double cost = (double)full * rows_cost(a, ra, b, rb, v * each, far);
    if (left) cost += rows_cost(a, ra, b, rb, left * each, far);
    if (panel * v > m->l2 * 6 / 10) cost *= 1.3;                 /* the weights of a tile no longer stay in L2 */
    cost *= 1 + 0.004 * (double)((a % ra != 0) + (b % rb != 0) + (left != 0)); /* equal: the one with less code */
    if (cost < best->cost) *best = (Choice){cost, v, ra, rb};
}

void choose_tile(Plan *plan, const Machine *m, int vec, int nrow, const int *row, int64_t panel, int64_t each) {
    Choice best = {1e300, 1, 1, 1};
    int64_t total = (trip_guess(plan->axis[vec].trip) + plan->lanes - 1) / plan->lanes;
    int64_t a = nrow > 0 ? trip_guess(plan->axis[row[0]].trip) : 1, b = nrow > 1 ? trip_guess(plan->axis[row[1]].trip) : 1;
    if (total < 1) total = 1;
    if (a < 1) a = 1;
    if (b < 1) b = 1;
    for (int v = 1; v <= MOST_VECTORS && v <= total; v++)
        for (int64_t ra = 1; ra <= a && ra <= MOST_ROWS; ra++) {
            consider(&best, m, total, v, a, ra, b, 1, panel, each);
            if (ra < a) continue;
            for (int64_t rb = 2; rb <= b && ra * rb <= MOST_ROWS; rb++) consider(&best, m, total, v, a, ra, b, rb, panel, each);
        }
    plan->axis[vec].vectors = best.vectors;
    if (nrow > 0) plan->axis[row[0]].rows = best.ra > 1 ? best.ra : 0;
    if (nrow > 1) plan->axis[row[1]].rows = best.rb > 1 ? best.rb : 0;
}
