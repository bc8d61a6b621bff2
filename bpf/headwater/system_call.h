/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What each system call does with the descriptors in its arguments, in the words
 * of headwater_agent/system_calls.py, which fills the table. A table, and not
 * branches, because the verifier would follow each call on its own through all
 * that comes behind.
 */
#ifndef HEADWATER_SYSTEM_CALL_H
#define HEADWATER_SYSTEM_CALL_H

#define HW_SYSTEM_CALLS 512
#define HW_STEPS 2

/* step.descriptor, beyond the numbers of arguments */
#define HW_DESCRIPTOR_RESULT 6
#define HW_DESCRIPTOR_FIRST_OF_PAIR 8 /* argument 0 to 5 points to two: 8 to 13 */
#define HW_DESCRIPTOR_SECOND_OF_PAIR 16 /* 16 to 21 */

enum hw_step_trait {
	HW_STEP_AT_ENTRY = 1 << 0, /* before anybody can see what is given away */
	HW_STEP_AT_EXIT = 1 << 1,
	HW_STEP_USES = 1 << 2, /* the task uses the object, else it generates it */
	HW_STEP_MOVES = 1 << 3, /* the result is what the file's position has moved */
	HW_STEP_OPENS = 1 << 4,
	HW_STEP_MAPS = 1 << 5,
	HW_STEP_ACCEPTS = 1 << 6, /* argument 0 is the listening socket */
	HW_STEP_GIVES = 1 << 7, /* to the peer of a unix socket, too */
	HW_STEP_LOCKS = 1 << 8, /* flags are flock(2)'s operation */
	HW_STEP_TAKES = 1 << 9, /* nothing was taken where the result is 0 */
	HW_STEP_SELF = 1 << 10, /* no descriptor: the acting process's memory */
	HW_STEP_CLONES = 1 << 11,
	HW_STEP_CONNECTS = 1 << 12, /* may go on when it returns */
	HW_STEP_SHARES = 1 << 13, /* of a clone: the flags are in memory */
	HW_STEP_LOCKS_RANGE = 1 << 14, /* fcntl(2)'s */
};

struct hw_step {
	u8 relation; /* HW_RELATION_*; 0: none */
	u8 socket; /* in its place where the descriptor is a socket; 0: none */
	u8 descriptor;
	u8 flags_from; /* argument with the flags, from 1; 0: those here */
	u32 flags;
	u16 traits;
	u8 condition; /* argument, from 1, in which one of the bits must be set; 0: no matter */
	u8 pad;
	u32 bits;
};

struct hw_system_call {
	struct hw_step steps[HW_STEPS];
};

BPF_ARRAY(system_calls, struct hw_system_call, HW_SYSTEM_CALLS);

#endif
