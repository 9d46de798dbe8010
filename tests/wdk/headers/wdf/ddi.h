// The function table: index of each entry, type of each function.
#pragma once

#include "bugcodes.h"
#include "device.h"
#include "dma.h"
#include "deferred.h"
#include "driver.h"
#include "fdo.h"
#include "globals.h"
#include "interrupt.h"
#include "io_target.h"
#include "memory.h"
#include "object.h"
#include "queue.h"
#include "request.h"

typedef enum _WDFFUNCENUM {
#define DDI(index, result, name, NAME, ...) name##TableIndex = index,
#define DDI_NAME(index, name) name##TableIndex = index,
#include "ddi.inc"
#undef DDI
#undef DDI_NAME
    WdfFunctionTableNumEntries = 458,
} WDFFUNCENUM;

#define DDI(index, result, name, NAME, ...) \
    typedef result (*PFN_##NAME)(PWDF_DRIVER_GLOBALS DriverGlobals, ##__VA_ARGS__);
#define DDI_NAME(index, name)
#include "ddi.inc"
#undef DDI
#undef DDI_NAME
