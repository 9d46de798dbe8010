// Stands in for the WDK's ntddk.h. The kernel is described in one place; see wdm.h.
#pragma once

#include "wdm.h"
