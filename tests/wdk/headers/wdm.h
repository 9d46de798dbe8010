// Stands in for the WDK's wdm.h: everything about the kernel that these headers describe.
#pragma once

#include "nt/types.h"
#include "nt/status.h"
#include "nt/bugcodes.h"
#include "nt/ke.h"
#include "nt/ex.h"
#include "nt/mm.h"
#include "nt/po.h"
#include "nt/pnp.h"
#include "nt/resource.h"
#include "nt/bus.h"
#include "nt/device.h"
#include "nt/irp.h"
#include "nt/io.h"
#include "nt/dma.h"
#include "nt/interrupt.h"
#include "nt/layout.h"
