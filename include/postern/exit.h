/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Exit statuses of postern(1). Documented in its man page,
 * section EXIT STATUS; a test compares the two. */
#pragma once

enum postern_exit {
	EXIT_OK = 0,
	EXIT_FAILED = 1,      /* anything without a number of its own */
	EXIT_USAGE = 2,       /* command line or spec */
	EXIT_DENIED = 3,      /* the policy says no, or knows no such hypervisor or network */
	EXIT_QUOTA = 4,
	EXIT_NO_BROKER = 5,   /* no broker, or it does not answer */
	EXIT_HOST = 6,        /* the host lacks what was required (KVM, vhost, SELinux, cgroups) */
	EXIT_FILE = 7,        /* a file of the user's is missing or unreadable */
	EXIT_LAUNCH = 8,      /* a step of the launch failed */
	EXIT_RECEIPT = 9,     /* the receipt did not match: the guest was never started */
	EXIT_NOT_FOUND = 10,  /* no such sandbox */
	EXIT_GUEST = 11,      /* foreground run: the VMM died or the guest crashed */
	EXIT_TIMEOUT = 12,
	EXIT_MEMORY = 13      /* foreground run: the kernel's OOM killer ended the sandbox */
};
