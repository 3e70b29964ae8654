/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). The controller reads what a hostile VMM answers, so it gives up what it can.
 *
 * It is not a boundary between users: whoever owns the controller owns what it gave up. It keeps a VMM that broke the
 * QMP parser away from the user's files and programs. */
#pragma once

#include <sys/types.h>

/* First thing in main(). Should: no new privileges, no core file, nobody may trace us, umask 077. 0 or -errno: exit. */
int confine_first(void);

/* After set-up, before the guest runs. Should: no file but below base and in /proc and the cgroup tree, no socket
 * but AF_UNIX, no program, no new process, no namespace, no tracing, no signal to anybody but passt (0: there is none).
 * Mustn't: fail where the kernel has no Landlock; *ret_landlock says which it has (0: none). 0 or -errno: do not start
 * the guest. */
int confine_last(int base, pid_t passt, int *ret_landlock);
