/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * HW_LSM, HW_FENTRY, HW_FEXIT, HW_TRACEPOINT, HW_TP_BTF - one hook, two functions
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

#define HW_LSM(event, args...) HW_HOOK(HW_LSM_REFUSED, lsm__##event, ".bpf.fn.lsm__" #event, ##args)
#define HW_FENTRY(event, args...) \
	HW_HOOK(HW_ALWAYS, fentry__##event, ".bpf.fn.fentry__" #event, ##args)
#define HW_FEXIT(event, args...) \
	HW_HOOK(HW_ALWAYS, fexit__##event, ".bpf.fn.fexit__" #event, ##args)
#define HW_TRACEPOINT(event, args...) \
	HW_HOOK(HW_ALWAYS, raw_tracepoint__##event, ".bpf.fn.raw_tracepoint__" #event, ##args)
/* A tracepoint with its arguments, of which the verifier knows the types. */
#define HW_TP_BTF(event, args...) \
	HW_HOOK(HW_ALWAYS, tp_btf__##event, ".bpf.fn.tp_btf__" #event, ##args)

#define HW_ALWAYS(ctx) false

/*
 * In mode fentry an LSM hook's program is the exit of the function security_*()
 * that calls the hooks, so it sees what all of them said; for one that returns
 * nothing it is the entry (headwater_agent/attach_points.py), where nothing can be
 * asked for and the answer stays 0. Where the function has not the hook's
 * arguments, the hook takes the mode's.
 */
#ifdef HW_MODE_FENTRY
#define HW_LSM_REFUSED(ctx) hw_refused(ctx)

static __always_inline bool hw_refused(unsigned long long *ctx)
{
	u64 answer = 0;

	bpf_get_func_ret(ctx, &answer);
	return (int)answer;
}

#define HW_MMAP_FILE_ARGUMENTS struct file *file, unsigned long protection, unsigned long flags
#else
#define HW_LSM_REFUSED(ctx) false
#define HW_MMAP_FILE_ARGUMENTS \
	struct file *file, unsigned long requested, unsigned long protection, unsigned long flags
#endif

/*
 * bcc's ___bpf_ctx_cast(args) is ctx, (void *)ctx[0], (void *)ctx[1] ...: numbers
 * come as pointers, which the compiler is told to accept.
 */
#define HW_HOOK(refused, program, section_name, args...)                                     \
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
		if (slot && !refused(ctx))                                                   \
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
