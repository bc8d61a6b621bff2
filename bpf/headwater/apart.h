/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * hw_apart() - what is large, rare and needs a few numbers only
 *
 * A function of its own, of which every program that calls it has a copy and
 * which the verifier walks through once, whoever calls it (a global one, see
 * headwater_agent/compile.py): inlined, it was nine tenths of the verifier's
 * work. One function for several purposes, because the compiler does not say
 * which function a call to another section is for.
 *
 * Its definition stands behind what it uses, in flow.h.
 */
#ifndef HEADWATER_APART_H
#define HEADWATER_APART_H

enum hw_apart_purpose {
	HW_APART_WRITE_PATH = 0, /* number: of a scratch buffer */
	HW_APART_SHARED_FLOW = 1, /* number: 1 reads, 0 writes; slot and epoch of the caller */
};

int hw_apart(u64 call);

static __always_inline void hw_call_apart(u32 purpose, u32 number, u32 slot, u32 epoch)
{
	/* By its address, because bcc takes what is called by name to be static. */
	int (*apart)(u64 call) = hw_apart;

	apart((u64)epoch << 32 | slot << 16 | number << 8 | purpose);
}

#endif
