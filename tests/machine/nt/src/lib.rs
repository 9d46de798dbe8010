//! The simulated kernel: processors, threads, IRQL, DPCs, timers, pool, MDLs, IRPs, bug checks.
