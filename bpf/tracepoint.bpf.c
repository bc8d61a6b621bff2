/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The program set of mode tracepoint, for kernels that let programs look at
 * tracepoints only: what system calls say of processes, files, pipes and sockets.
 * The loader puts the included files in place and hands bcc one text.
 */
#define HW_MODE_TRACEPOINT
#include "headwater/layout.h"
#include "headwater/kernel.h"
#include "headwater/state.h"
#include "headwater/inode_key.h"
#include "headwater/scope.h"
#include "headwater/hook.h"
#include "headwater/version.h"
#include "headwater/submit.h"
#include "headwater/border.h"
#include "headwater/apart.h"
#include "headwater/declare.h"
#include "headwater/flow.h"
#include "headwater/rules.h"
#include "headwater/target.h"
#include "headwater/life.h"
#include "headwater/peer.h"
#include "headwater/mapping.h"
#include "headwater/system_call.h"

#include "cgroup.bpf.c"
#include "system_call.bpf.c"
