/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * One process looks into another or takes hold of it: ptrace, what /proc shows of
 * its memory, process_vm_readv and process_vm_writev, kcmp, pidfd_getfd. The kernel
 * asks one hook before all of them (ptrace_may_access), never for a process itself.
 *
 * Who may only look learns from the memory: ptrace_read. Who takes hold may write
 * and look: ptrace_attach and ptrace_read, but for the two calls that do one of
 * them. CamFlow records ptrace_attach alone, so what a debugger learns has no edge.
 */

#define HW_PTRACE_MODE_READ 1
#define HW_PTRACE_MODE_ATTACH 2

/* The calls that say which way content goes; on other machines both ways are recorded. */
#if defined(bpf_target_x86)
#define HW_CALL_OF(registers) ((registers)->orig_ax)
#define HW_CALL_PROCESS_VM_READV 310
#define HW_CALL_PROCESS_VM_WRITEV 311
#elif defined(bpf_target_arm64)
#define HW_CALL_OF(registers) ((registers)->syscallno)
#define HW_CALL_PROCESS_VM_READV 270
#define HW_CALL_PROCESS_VM_WRITEV 271
#else
#define HW_CALL_OF(registers) (-1L)
#define HW_CALL_PROCESS_VM_READV 0
#define HW_CALL_PROCESS_VM_WRITEV 0
#endif

static __always_inline struct hw_object *hw_other_task(struct hw_context *context,
						       struct task_struct *task)
{
	struct hw_task_state *state;

	if (!hw_with_self(context) ||
	    !hw_declare_task(context, &context->self->task, context->task))
		return 0;
	state = hw_task_of(task, hw_slot_of(hw_task_cgroup(task)));
	if (!state) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return 0;
	}
	return hw_declare_task(context, &state->task, task) ? &state->task : 0;
}

static __always_inline void hw_looks_into(u32 slot, struct task_struct *tracee, u32 mode)
{
	struct hw_context context;
	struct hw_object *other;

	if (hw_begin_for(&context, slot, HW_RELATION_PTRACE_READ))
		hw_memory_flow(&context, HW_RELATION_PTRACE_READ, tracee, true, mode);
	if (!hw_begin_for(&context, slot, HW_RELATION_PTRACE_READ_TASK))
		return;
	other = hw_other_task(&context, tracee);
	if (other)
		hw_derived(&context, HW_RELATION_PTRACE_READ_TASK, other, &context.self->task,
			   mode);
}

static __always_inline void hw_takes_hold(u32 slot, struct task_struct *tracee, u32 mode)
{
	struct hw_context context;
	struct hw_object *other;

	if (hw_begin_for(&context, slot, HW_RELATION_PTRACE_ATTACH))
		hw_memory_flow(&context, HW_RELATION_PTRACE_ATTACH, tracee, false, mode);
	if (!hw_begin_for(&context, slot, HW_RELATION_PTRACE_ATTACH_TASK))
		return;
	other = hw_other_task(&context, tracee);
	if (other)
		hw_derived(&context, HW_RELATION_PTRACE_ATTACH_TASK, &context.self->task, other,
			   mode);
}

HW_LSM(ptrace_access_check, struct task_struct *tracee, unsigned int mode)
{
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(hw_current());
	long call = HW_CALL_OF(registers);

	if (mode & HW_PTRACE_MODE_ATTACH && call != HW_CALL_PROCESS_VM_READV)
		hw_takes_hold(slot, tracee, mode);
	if (mode & HW_PTRACE_MODE_READ || call != HW_CALL_PROCESS_VM_WRITEV)
		hw_looks_into(slot, tracee, mode);
}

/* The acting task lets its parent trace it. */
HW_LSM(ptrace_traceme, struct task_struct *parent)
{
	struct hw_context context;
	struct hw_object *other;

	if (!hw_begin_for(&context, slot, HW_RELATION_PTRACE_TRACEME))
		return;
	other = hw_other_task(&context, parent);
	if (other)
		hw_derived(&context, HW_RELATION_PTRACE_TRACEME, &context.self->task, other, 0);
}
