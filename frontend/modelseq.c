#include "model.h"
const LayerRow gd_layers_seq[] = {{0}};
