/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The program set of mode fentry: that of mode lsm (headwater.bpf.c), attached to
 * the functions that call the LSM hooks, in the order of the data's way: what every hook
 * shares, then the hooks by the kind of object they mediate. The loader puts the
 * included files in place and hands bcc one text.
 */
#define HW_MODE_FENTRY
#include "headwater/layout.h"
#include "headwater/kernel.h"
#include "headwater/state.h"
#include "headwater/inode_hash.h"
#include "headwater/channel_address.h"
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
#include "headwater/address.h"
#include "headwater/mapping.h"

#include "cgroup.bpf.c"
#include "border.bpf.c"
#include "process.bpf.c"
#include "ptrace.bpf.c"
#include "signal.bpf.c"
#include "file.bpf.c"
#include "inode.bpf.c"
#include "attribute.bpf.c"
#include "ipc.bpf.c"
#include "loading.bpf.c"
#include "socket.bpf.c"
#include "datagram.bpf.c"
#include "channel.bpf.c"
#include "splice.bpf.c"
