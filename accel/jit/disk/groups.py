"""A group's right to write, which is harmless if the owner is the group's only member."""

from __future__ import annotations

import os
from functools import cache


def alone(user: int, group: int, fd: int) -> bool:
    """Return whether no group's right lets anybody but `user` write the file of `fd`."""
    try:
        # With access control lists, the group's right is the most that anybody listed has.
        listed = os.listxattr(f"/proc/self/fd/{fd}")
    except (AttributeError, OSError):
        listed = []
    return "system.posix_acl_access" not in listed and _own_group(user, group)


@cache
def _own_group(user: int, group: int) -> bool:
    """Return whether `group` is the user's own group and has no other member."""
    # Containers run users without an account in group 0: nobody can list its members.
    if group == 0:
        return False
    import grp
    import pwd

    try:
        account, members = pwd.getpwuid(user), grp.getgrgid(group).gr_mem
    except KeyError:
        return False
    if account.pw_gid != group or not set(members) <= {account.pw_name}:
        return False
    return all(one.pw_uid == user for one in pwd.getpwall() if one.pw_gid == group)
