// Stands in for the WDK's ntstrsafe.h, of which nothing is used.
#pragma once

#include "wdm.h"
