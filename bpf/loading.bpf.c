/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the kernel itself takes in: modules, firmware, what kexec starts, policies.
 * It comes from a file or from the memory of the task that asks, and what it changes
 * is the machine.
 */

_Static_assert(READING_FIRMWARE == LOADING_FIRMWARE && READING_MODULE == LOADING_MODULE &&
		       READING_KEXEC_IMAGE == LOADING_KEXEC_IMAGE &&
		       READING_KEXEC_INITRAMFS == LOADING_KEXEC_INITRAMFS &&
		       READING_POLICY == LOADING_POLICY &&
		       READING_X509_CERTIFICATE == LOADING_X509_CERTIFICATE,
	       "both hooks number what is loaded alike");
_Static_assert(HW_RELATION_LOAD_FIRMWARE - HW_RELATION_LOAD_UNKNOWN == READING_FIRMWARE &&
		       HW_RELATION_LOAD_MODULE - HW_RELATION_LOAD_UNKNOWN == READING_MODULE &&
		       HW_RELATION_LOAD_KEXEC_IMAGE - HW_RELATION_LOAD_UNKNOWN ==
			       READING_KEXEC_IMAGE &&
		       HW_RELATION_LOAD_KEXEC_INITRAMFS - HW_RELATION_LOAD_UNKNOWN ==
			       READING_KEXEC_INITRAMFS &&
		       HW_RELATION_LOAD_POLICY - HW_RELATION_LOAD_UNKNOWN == READING_POLICY &&
		       HW_RELATION_LOAD_CERTIFICATE - HW_RELATION_LOAD_UNKNOWN ==
			       READING_X509_CERTIFICATE,
	       "the relations stand in the kernel's order");

/* Since 6.18 a module that is still compressed has a number of its own. */
#define HW_LOADING_MODULE_COMPRESSED (READING_X509_CERTIFICATE + 1)

static __always_inline u8 hw_loading_relation(u32 what)
{
	if (what <= READING_X509_CERTIFICATE)
		return HW_RELATION_LOAD_UNKNOWN + what;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
	if (what == HW_LOADING_MODULE_COMPRESSED)
		return HW_RELATION_LOAD_MODULE;
#endif
	return HW_RELATION_LOAD_UNDEFINED;
}

/* task -> machine. The machine has no versions: nothing flows out of it but where tasks run. */
static __always_inline void hw_loads(struct hw_context *context, u32 what)
{
	u8 relation = hw_loading_relation(what);
	struct hw_object *task;

	if (hw_relation_off(context->config, relation) ||
	    hw_vertex_off(context->config, HW_VERTEX_MACHINE) || !hw_with_self(context))
		return;
	task = &context->self->task;
	if (hw_declare_task(context, task, context->task))
		hw_edge(context, relation, what, task->id, hw_send(task), 0, 0);
	else
		hw_lose_placeless(context);
}

/* finit_module, kexec_file_load, request_firmware, an IMA policy by its path */
HW_LSM(kernel_read_file, struct file *file, u32 what, bool contents)
{
	struct hw_context context;

	if (!hw_begin(&context, slot))
		return;
	if (!hw_relation_off(context.config, HW_RELATION_LOAD_FILE))
		hw_file_flow(&context, HW_RELATION_LOAD_FILE, file, true, what, 0);
	hw_loads(&context, what);
}

/* init_module, kexec_load: out of the acting task's memory */
HW_LSM(kernel_load_data, u32 what, bool contents)
{
	struct hw_context context;

	if (!hw_begin(&context, slot) || hw_relation_off(context.config, hw_loading_relation(what)))
		return;
	if (hw_with_self(&context))
		hw_recall(&context);
	hw_loads(&context, what);
}
