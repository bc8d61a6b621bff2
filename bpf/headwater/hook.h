/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * HW_LSM, HW_FENTRY, HW_FEXIT, HW_TRACEPOINT - one hook, two functions
 *
 * The first is what the kernel calls: it looks at the bucket of the acting task's
 * cgroup and returns when that is empty and no process has left the scope (strays,
 * border.h). The second does the work. It is a
 * function of its own because a function's saved registers and stack are paid for
 * on every call, also by the tasks outside every scope, which are most (G9).
 *
 * Always return 0: a hook never denies. The second function stands in the same
 * section behind the first: headwater_agent/compile.py takes both.
 */
#ifndef HEADWATER_HOOK_H
#define HEADWATER_HOOK_H

#define HW_LSM(event, args...) HW_HOOK(lsm__##event, ".bpf.fn.lsm__" #event, ##args)
#define HW_FENTRY(event, args...) HW_HOOK(fentry__##event, ".bpf.fn.fentry__" #event, ##args)
#define HW_FEXIT(event, args...) HW_HOOK(fexit__##event, ".bpf.fn.fexit__" #event, ##args)
#define HW_TRACEPOINT(event, args...) \
	HW_HOOK(raw_tracepoint__##event, ".bpf.fn.raw_tracepoint__" #event, ##args)

/*
 * bcc's ___bpf_ctx_cast(args) is ctx, (void *)ctx[0], (void *)ctx[1] ...: numbers
 * come as pointers, which the compiler is told to accept.
 */
#define HW_HOOK(program, section_name, args...)                                              \
	int program(unsigned long long *ctx);                                                \
	static __attribute__((noinline, section(section_name))) int in_scope_##program(      \
		unsigned long long *ctx, u64 word, u64 cgroup);                              \
	static __always_inline void do_##program(u32 slot, unsigned long long *ctx, ##args); \
	int program(unsigned long long *ctx)                                                 \
	{                                                                                    \
		u64 cgroup = hw_task_cgroup(hw_current()), word = *hw_bucket_of(cgroup);     \
                                                                                             \
		if (word | hw_strays())                                                      \
			in_scope_##program(ctx, word, cgroup);                               \
		return 0;                                                                    \
	}                                                                                    \
	static int in_scope_##program(unsigned long long *ctx, u64 word, u64 cgroup)         \
	{                                                                                    \
		u32 slot = hw_slot_in(word, cgroup);                                         \
                                                                                             \
		if (!slot)                                                                   \
			slot = hw_stray_slot();                                              \
                                                                                             \
		if (slot)                                                                    \
			do_##program(slot, ___bpf_ctx_cast(args));                           \
		return 0;                                                                    \
	}                                                                                    \
	static __always_inline void do_##program(u32 slot, unsigned long long *ctx, ##args)

/* A function's entry for every task: for what decides about the scope itself. */
#define HW_FENTRY_ALL(event, args...)                                                    \
	int fentry__##event(unsigned long long *ctx);                                    \
	static __always_inline void do_fentry__##event(unsigned long long *ctx, ##args); \
	int fentry__##event(unsigned long long *ctx)                                     \
	{                                                                                \
		do_fentry__##event(___bpf_ctx_cast(args));                               \
		return 0;                                                                \
	}                                                                                \
	static __always_inline void do_fentry__##event(unsigned long long *ctx, ##args)

#endif
