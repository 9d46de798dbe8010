// Stands in for the WDK's wdf.h, version 1.33 of the kernel-mode driver framework.
//
// Consumers: wdk-sys, for the driver's bindings; the driver's entry code, lib/entry.c; nt-sys, the machine's bindings.
#pragma once

#if defined(KMDF_VERSION_MAJOR) && (KMDF_VERSION_MAJOR != 1 || KMDF_VERSION_MINOR != 33)
#error "these headers describe KMDF 1.33 only"
#endif

#include "wdf/types.h"
#include "wdf/globals.h"
#include "wdf/loader.h"
#include "wdf/object.h"
#include "wdf/driver.h"
#include "wdf/memory.h"
#include "wdf/device_states.h"
#include "wdf/device.h"
#include "wdf/fdo.h"
#include "wdf/deferred.h"
#include "wdf/interrupt.h"
#include "wdf/request.h"
#include "wdf/queue.h"
#include "wdf/io_target.h"
#include "wdf/dma.h"
#include "wdf/bugcodes.h"
#include "wdf/ddi.h"
#include "wdf/layout.h"
