/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). The lock on our id range.
 *
 * Two Posterns whose ranges overlap would give one uid to two sandboxes. The lock belongs to the open file, which both
 * daemons inherit: the range is taken while either lives, and free when both are gone, however they went. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/log.h"

/* In /run itself, which only root writes; in /run/lock anybody could plant something. One for all runtime directories. */
#define IDS_LOCK_FILE "/run/postern-ids.lock"

int ids_lock(struct start *s)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = s->policy.first_uid, .l_len = s->policy.uid_count
	};
	cleanup_fd int fd = open(IDS_LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		log_error("%s: %m", IDS_LOCK_FILE);
		return -errno;
	}
	if (!S_ISREG(st.st_mode) || st.st_uid != 0 || st.st_nlink != 1 || (st.st_mode & 077) != 0) {
		log_error("%s: not a plain file of root's with mode 0600; remove it", IDS_LOCK_FILE);
		return -EPERM;
	}
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
		if (errno == EAGAIN || errno == EACCES)
			log_error("ids %u-%u: another Postern on this host uses some of them (%s is locked); end it, or "
				  "give each policy its own \"ids\"",
				  s->policy.first_uid, s->policy.first_uid + (s->policy.uid_count - 1), IDS_LOCK_FILE);
		else
			log_error("%s: %m", IDS_LOCK_FILE);
		return -EBUSY;
	}
	s->p[P_IDS_LOCK] = fd_take(&fd);
	return 0;
}
