/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guards attempts to connect against a child that makes the shared socket blocking again while we
 * are inside the call: when the caller is gone, the socket is shut down, which ends the wait.
 */
#pragma once

#include "supervisor/supervisor.h"

struct net_watch;

struct net_watch *net_watch_new(void); /* NULL when out of memory */
void net_watch_free(struct net_watch *w);
/* Registers an attempt on fd; a slot for net_watch_leave(), or -1 when all are taken: go without. */
int net_watch_enter(struct net_watch *w, const struct request *r, int fd);
void net_watch_leave(struct net_watch *w, int slot);
