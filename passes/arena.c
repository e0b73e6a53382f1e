/* Interval packing for `plan`: see arena.h.

   Pieces are placed one by one, each into the smallest gap that holds it between the pieces placed before it
   that are alive with it, or behind them. The order decides how well this goes: by size, by size times
   lifetime and by time are all tried, and the shortest line is kept. No line is shorter than what is alive at
   one moment; reaching that ends the search. Each order looks at every pair once, so it ends. */
#include "arena.h"
#include <stdlib.h>

static int64_t sat_mul(int64_t a, int64_t b) {
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

/* Stable, so that equal pieces keep their order and the result is the same everywhere. */
static int by_rank(const void *a, const void *b) {
    const Piece *x = *(Piece *const *)a, *y = *(Piece *const *)b;
    if (x->rank != y->rank) return x->rank > y->rank ? -1 : 1;
    return x < y ? -1 : x > y;
}

static bool together(const Piece *a, const Piece *b) { return a->first <= b->last && b->first <= a->last; }

/* The smallest gap that holds p among the placed ones, which are in order of their places. */
static int64_t find_gap(Piece *const *placed, int n, const Piece *p) {
    int64_t end = 0, best = -1, best_room = INT64_MAX;
    for (int i = 0; i < n; i++) {
        const Piece *q = placed[i];
        if (!together(p, q)) continue;
        int64_t room = q->at - end;
        if (room >= p->size && room < best_room) {
            best = end;
            best_room = room;
        }
        if (q->at + q->size > end) end = q->at + q->size;
    }
    return best >= 0 ? best : end;
}

static int64_t place_all(Ctx *c, int n, Piece *const *order, Piece **placed) {
    int64_t end = 0;
    for (int i = 0; i < n; i++) {
        Piece *p = order[i];
        p->at = find_gap(placed, i, p);
        if (gd_add(c, p->at, p->size) > end) end = p->at + p->size;
        int k = i;
        for (; k > 0 && placed[k - 1]->at > p->at; k--) placed[k] = placed[k - 1];
        placed[k] = p;
        if ((i & 1023) == 0) gd_check_time(c);
    }
    return end;
}

typedef struct Event {
    int time;
    int64_t change;
} Event;
static int by_time(const void *a, const void *b) {
    const Event *x = a, *y = b;
    if (x->time != y->time) return x->time < y->time ? -1 : 1;
    return x->change < y->change ? -1 : x->change > y->change; /* what ends at a moment goes first */
}

/* The most bytes alive at one moment. */
static int64_t most_alive(Ctx *c, int n, const Piece *pieces) {
    Event *e = gd_new_array(c, Event, 2 * n);
    int64_t now = 0, most = 0;
    for (int i = 0; i < n; i++) {
        e[2 * i] = (Event){pieces[i].first, pieces[i].size};
        e[2 * i + 1] = (Event){pieces[i].last + 1, -pieces[i].size};
    }
    qsort(e, (size_t)(2 * n), sizeof *e, by_time);
    for (int i = 0; i < 2 * n; i++) {
        now += e[i].change;
        if (now > most) most = now;
    }
    return most;
}

static int64_t rank_of(const Piece *p, int order) {
    switch (order) {
    case 0: return p->size;
    case 1: return sat_mul(p->size, p->last - p->first + 1);
    case 2: return p->last - p->first;
    default: return -(int64_t)p->first;
    }
}

int64_t arena_pack(Ctx *c, int n, Piece *pieces) {
    enum { ORDERS = 4, MANY = 4096 };
    if (!n) return 0;
    int64_t best = INT64_MAX, least = most_alive(c, n, pieces);
    int64_t *at = gd_new_array(c, int64_t, n);
    Piece **order = gd_new_array(c, Piece *, n), **placed = gd_new_array(c, Piece *, n);
    for (int k = 0; k < ORDERS && best > least && (k == 0 || n <= MANY); k++) {
        for (int i = 0; i < n; i++) {
            order[i] = &pieces[i];
            pieces[i].rank = rank_of(&pieces[i], k);
        }
        qsort(order, (size_t)n, sizeof *order, by_rank);
        int64_t end = place_all(c, n, order, placed);
        if (end >= best) continue;
        best = end;
        for (int i = 0; i < n; i++) at[i] = pieces[i].at;
    }
    for (int i = 0; i < n; i++) pieces[i].at = at[i];
    return best;
}
