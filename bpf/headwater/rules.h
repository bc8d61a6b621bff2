/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which processes a slot's policies leave out, by the program that they execute
 * (CamFlow's track and opaque).
 *
 * The agent makes one automaton of the path patterns of all policies of a slot
 * (headwater_prov.policy.automaton), which reads a path's components from the last
 * to the first, as hw_write_path() writes them. It is run once at each exec; what
 * came of it is kept with the task and handed to its children, so a flow only asks
 * whether its task is left out.
 *
 * A task that no exec has been seen of under the rules in force is recorded: more
 * than asked for, never less.
 */
#ifndef HEADWATER_RULES_H
#define HEADWATER_RULES_H

/* What a state accepts: track of member n is bit n, its opaque bit n + 8. */
#define HW_RULES_OPAQUE_SHIFT 8
#define HW_RULES_ALL 0xff

static __always_inline bool hw_has_rules(struct hw_context *context)
{
#ifdef HW_MODE_TRACEPOINT
	/* An exec is seen when it is over, and the agent sets no rules. */
	return false;
#else
	return context->flags & HW_SLOT_RULES;
#endif
}

/* A member leaves a task out that is opaque to it, or that it does not track and is selective. */
static __always_inline bool hw_left_out(struct hw_context *context, struct hw_task_state *self)
{
	struct hw_slot_config *config = context->config;
	u32 left;

	if (!hw_has_rules(context) || self->rules != config->rules)
		return false;
	left = (config->selective & ~self->tracked) | self->opaque;
	return (left & config->members) == config->members;
}

/* A new task is what its parent is. */
static __always_inline void hw_rules_inherit(struct hw_context *context, struct task_struct *child)
{
	struct hw_task_state *parent, *state;

	if (!hw_has_rules(context))
		return;
	parent = tasks.task_storage_get(context->task, 0, 0);
	if (!parent || parent->rules != context->config->rules)
		return;
	state = hw_task_of(child, context->slot);
	if (!state)
		return; /* unknown, so it is recorded */
	state->tracked = parent->tracked;
	state->opaque = parent->opaque;
	state->rules = parent->rules;
}

/* An exec begins: what is handed down is that the task is tracked. */
static __always_inline void hw_rules_begin(struct hw_context *context)
{
	struct hw_task_state *self;

	if (!hw_has_rules(context))
		return;
	self = hw_task_of(context->task, context->slot);
	if (!self)
		return;
	self->becoming_tracked = self->rules == context->config->rules ? self->tracked : 0;
	self->becoming_opaque = 0;
}

/* What the automaton accepts of the path in a buffer. */
static __always_inline u32 hw_rules_match(struct hw_slot_config *config, struct hw_text *text)
{
	u64 at, state = config->start;
	u32 i, length = text->length;

	if (text->marks & HW_TEXT_TRUNCATED)
		return HW_RULES_ALL;
	if (text->marks & HW_TEXT_UNMOUNTED)
		return 0;
	for (i = 0; i < HW_TEXT_DATA_MAX; i++) {
		/* Opaque, or the two ends of the loop become one that the verifier does not see. */
		if (i >= hw_opaque(length))
			break;
		at = state << 8 | (u8)text->data[i];
		/* In one piece, or kernel 6.1's verifier does not see that it is bounded. */
		asm volatile("%0 &= %1" : "+r"(at) : "i"(HW_AUTOMATON_STATES * 256 - 1));
		state = HW_DIRECT(automaton)->next[at];
	}
	asm volatile("%0 &= %1" : "+r"(state) : "i"(HW_AUTOMATON_STATES - 1));
	return HW_DIRECT(automaton)->accepts[state];
}

/*
 * hw_rules_judge() - a file is about to be executed: a script, then its interpreter
 *
 * Either makes the task what the policies say of it. Returns whether the task is left
 * out by what is known so far; if not, the context goes on as one without rules.
 */
static __always_inline bool hw_rules_judge(struct hw_context *context, struct file *file)
{
	struct hw_slot_config *config = context->config;
	u32 number, accepted = HW_RULES_ALL, left;
	struct hw_task_state *self;
	struct hw_scratch *buffer;

	if (!hw_has_rules(context))
		return false;
	context->flags &= ~HW_SLOT_RULES;
	self = hw_task_of(context->task, context->slot);
	if (!self)
		return false;
	number = hw_scratch_claim();
	buffer = scratch.lookup(&number);
	if (buffer) {
		buffer->dentry = HW_GET(file, f_path.dentry);
		buffer->mount = HW_GET(file, f_path.mnt);
		hw_call_apart(HW_APART_WRITE_PATH, number, 0, 0);
		accepted = hw_rules_match(config, &buffer->text);
		hw_scratch_release(number);
	}
	self->becoming_tracked |= accepted & HW_RULES_ALL;
	self->becoming_opaque |= accepted >> HW_RULES_OPAQUE_SHIFT;
	left = (config->selective & ~self->becoming_tracked) | self->becoming_opaque;
	return (left & config->members) == config->members;
}

/* The task is what it was about to become. */
static __always_inline void hw_rules_become(struct hw_context *context, struct hw_task_state *self)
{
	if (!hw_has_rules(context))
		return;
	self->tracked = self->becoming_tracked;
	self->opaque = self->becoming_opaque;
	self->rules = context->config->rules;
}

#endif
