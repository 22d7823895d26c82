"""Devices that are bound to a context: their attachments and their reports.

The emulated kernel's own drivers call these (VFIO in Linux), not a client. Source: drivers/iommu/iommufd/device.c and
fault.c, Linux 6.12.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from uring_iopf._native import CDevice, CFaultQueue, CIommu, check, ffi, lib
from uring_iopf.abi.iommufd import FaultFlags, FaultPerm, HwptAllocFlags
from uring_iopf.errors import KernelError, UsageError, check_bytes, check_fits, check_whole, whole
from uring_iopf.handles import Handle, Step, foreign
from uring_iopf.iommufd.devices.group import NO_PASID, Attachment, DeviceGroup, Member
from uring_iopf.iommufd.devices.identity import VirtualIdentity, virtual_identity
from uring_iopf.iommufd.objects import NO_IOMMU, Object, ObjectRef, ObjectTable, check_refs
from uring_iopf.iommufd.spaces.hwpt import HWPT, NestedHWPT, PagingHWPT, auto_tables
from uring_iopf.iommufd.spaces.ioas import IOAS
from uring_iopf.iommufd.versions import RefusedFunctions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uring_iopf.core import Core
    from uring_iopf.iommufd.devices.viommu import Vdevice
    from uring_iopf.iommufd.drivers.base import IommuDriver
    from uring_iopf.iommufd.versions import KernelVersion


MOST_REQUESTS: Final = 1 << 20
"""The most requests that a device may have outstanding. Memory for all of them is allocated."""


class DeviceCounts(NamedTuple):
    """The counts of a device's reports."""

    reported: int
    """Faults that were reported."""
    refused: int
    """Faults that the kernel answered without a client: no queue, no memory, or malformed. Also faults of an unfinished
    group that were dropped after the kernel, or the IOMMU, had answered their group."""
    dropped: int
    """Faults of unfinished groups that were dropped without an answer."""
    stale: int
    """Faults that reached a later attachment than the one of their time, because the IOMMU does not drain."""
    passed_over: int = 0
    """Malformed page requests that the driver dropped without an answer, as Linux's: those that are not their group's
    last, and what it takes for stop markers."""
    served: int = 0
    """Faults that the kernel served without a client: of stage 2, or of a page that was there by then. See
    `uring_iopf.iommufd.devices.fault_handler`."""


class VirtualFunction(NamedTuple):
    """Marks a device as a PCIe virtual function."""

    pf_has_pri: bool
    """Whether its physical function has the PRI capability."""


class Device(Object, Handle[CDevice]):
    """A device bound to a context by `Context.bind`. Its driver is a user until it is unbound."""

    _what = "device"

    def __init__(
        self,
        table: ObjectTable,
        core: Core,
        version: KernelVersion,
        iommu: CIommu,
        requester_id: int,
        capacity: int,
        *,
        growable: bool = False,
        driver: IommuDriver,
        group: DeviceGroup | None = None,
        max_pasids: int = 0,
        virtual_function: VirtualFunction | None = None,
        shares_pri: bool = False,
        reserved: Sequence[tuple[int, int]] = (),
        on_unbind: Callable[[], object] | None = None,
    ) -> None:
        check_fits(32, requester_id=requester_id)
        check_whole("capacity", capacity, 1, MOST_REQUESTS, ", requests that a device may have outstanding")
        check_whole("max_pasids", max_pasids, 0, 1 << 20)
        if not _is_iommu(iommu):
            raise UsageError(f"iommu must be an Iommu or a MockIommu, not {iommu!r}")
        Object.__init__(self, table)
        Handle.__init__(self)
        self.reserved = tuple(reserved)
        """Pairs (first, last) of addresses that it cannot reach through an address space: MSIs, peers."""
        self._version = version
        self._on_unbind = on_unbind
        self.iommu = iommu
        self.requester_id = requester_id
        self.driver = driver
        """The driver of its IOMMU."""
        self.max_pasids = max_pasids
        """The number of PASIDs that it can use; 0: it has no PASID capability."""
        self.virtual_function = virtual_function
        self.shares_pri = shares_pri
        """Whether it is a virtual function whose Response Failures stop its own requests only, until `reset_pri`."""
        self.group = DeviceGroup() if group is None else group
        """The group of devices that the IOMMU cannot tell apart, including this one."""
        self.vdevice: Vdevice | None = None
        """The virtual device that stands for it in a guest."""
        self.virtual: VirtualIdentity | None = None
        """The virtual IOMMU for its events, and its number there, as the driver found them at the last attach."""
        self.unplugged = False
        """Whether the hardware is gone. Its attachments keep the object then."""
        others = list(self.group.devices)
        join = self.group.joining(self, table)
        new, free = lib.uiopf_device_new, lib.uiopf_device_free
        try:
            self._make(free, new, core.c, iommu, self.id, requester_id, capacity, growable)
        except MemoryError:
            if ffi.errno != errno.ERANGE:
                raise
            raise UsageError(
                f"requester_id must be 0 to 2^16 - 1 behind this IOMMU, whose formats have 16 bits, not {requester_id}"
            ) from None
        if shares_pri:
            lib.uiopf_device_share_pri(self.c)
        if others:
            self._entering.append(partial(lib.uiopf_device_join, self.c, others[0].c, self._flags()))
        self._entering += [*join, self.holding()]  # its driver's

    def _flags(self, hwpt: HWPT | None = None) -> int:
        """The flags for an attachment in C."""
        flags = lib.UIOPF_ALONE if self._version.one_device_reports else 0
        if isinstance(hwpt, NestedHWPT) and self.driver.user_pasid_tables:
            flags |= lib.UIOPF_USER_MANAGED
        return flags

    @property
    def hwpt(self) -> HWPT | None:
        """The table that it is attached to; None: it is not attached, even if others of its group are."""
        return self.attached_to(NO_PASID)

    def attached_to(self, pasid: int) -> HWPT | None:
        """The table that this PASID of the device is attached to; None: it is not attached."""
        whole("pasid", pasid)
        return self.group.attachments[pasid].hwpt if self.group.is_attached(self, pasid) else None

    def pasids(self) -> list[int]:
        """The PASIDs that are attached, in rising order."""
        return sorted(p for p in self.group.attachments if p != NO_PASID and self.group.is_attached(self, p))

    def _refusal(self) -> Exception:
        return foreign("device") if self._is_foreign else KernelError(errno.ENOENT, "device")

    def attach(self, pt: ObjectRef, *, pasid: int | None = None) -> HWPT:
        """Attach the device, or one PASID of it, to a table, or to an address space, which gets one. Return the table.

        All devices of a group share one table. Faults of a PASID that is attached go to its table's queue. Faults of
        another PASID go to the queue of the device's own table, if that table's PASIDs are user-managed. *pasid*: None
        or 0: the device itself, as in Linux.

        Raises: KernelError(ENOENT), no such object, or the device is unbound, or it has no virtual device on the nested
        table's virtual IOMMU; KernelError(EBUSY), it is attached (6.12: to this table; it does not look, and damages
        its list of devices); KernelError(EINVAL), not a table or space, another IOMMU's, the group is attached to
        another, a virtual function that may not have faults, tables that do not go together with PASIDs, or a PASID
        beyond the device's; KernelError(EOPNOTSUPP), the IOMMU has no such tables for PASIDs. Source:
        iommufd_device_attach, Linux 6.12 and 7.2.
        """
        check_refs(pt=pt)
        return self._change("attach", pt, pasid)

    def replace(self, pt: ObjectRef, *, pasid: int | None = None) -> HWPT:
        """Move the device and its group, or one PASID, to another table or address space. Return the table.

        If *pt* is the table that it is attached to, nothing happens. The open groups of the old attachment are answered
        INVALID after the switch. An unfinished group moves along to a table with a fault queue. It is dropped when the
        device has no attachment with a fault queue any more.

        Raises: KernelError(EINVAL), it is not attached; else as `attach`. Nothing has changed then.
        Source: iommufd_device_replace, Linux 6.12 and 7.2.
        """
        check_refs(pt=pt)
        return self._change("replace", pt, pasid)

    def detach(self, *, pasid: int | None = None) -> None:
        """Detach the device, or one PASID, if it is attached.

        When the last device of its group is detached, the open groups are answered INVALID. Unfinished groups are
        dropped with the device's last fault queue.

        Raises: KernelError(ENOENT), it is unbound; KernelError(EINVAL), PASIDs cannot be attached in this kernel.
        Source: iommufd_device_detach, Linux 6.12 and 7.2.
        """
        if self.unplugged:
            raise KernelError(errno.ENOENT, "detach")
        self._detach(self._key("detach", pasid))

    def _detach(self, key: int) -> None:
        self._table.begin()
        c = self.c
        if not self.group.is_attached(self, key):
            return
        at = self.group.attachments[key]
        steps: list[Step] = []
        if len(at.devices) == 1:
            steps += [partial(lib.uiopf_detach, c, key), partial(self.group.attachments.__delitem__, key)]
            steps += self._clearing_pasid(key)
            if key == NO_PASID:
                steps += _identifying([(one, None) for one in self.group.devices])
        steps += [partial(at.devices.remove, self), self.putting()]
        if key == NO_PASID:
            steps += at.hwpt.space.unreserving(self)
        self._table.change("detach", *steps, *at.hwpt.detaching())

    def unbind(self) -> None:
        """Detach the device, PASIDs first, and end the binding, as VFIO does when a device's file is closed.

        Raises: KernelError(ENOENT), it is unbound already. Source: vfio_iommufd_physical_unbind, Linux 7.2.
        """
        if not self.exists:
            raise KernelError(errno.ENOENT, "unbind")
        steps = self.unbinding()
        self._table.change("unbind", *steps)

    def unbinding(self) -> list[Step]:
        """Detach the device. Return the steps that end the binding. Raises: KernelError, it is used or unplugged."""
        for pasid in self.pasids():
            self._detach(pasid)
        self.detach()
        self._table.begin()
        if self.users > 1:
            raise KernelError(errno.EBUSY, "unbind")
        return [self.putting(), *self.leaving(), *self._table.removing(self)]

    def reset_pri(self) -> None:
        """Reset the virtual PRI capability of a virtual function whose page requests a Response Failure has stopped.

        Raises: KernelError(EOPNOTSUPP), the function does not share PRI, or the context has no *virtual_pri_reset*;
        KernelError(ENOENT), it is unbound.
        """
        check(lib.uiopf_device_reset_pri(self.c), "PRI reset")

    @property
    def pri_paused(self) -> bool:
        """Whether its page requests are stopped until `reset_pri`; they are answered INVALID meanwhile."""
        return bool(lib.uiopf_device_pri_paused(self.c))

    def report(
        self, grpid: int, addr: int, *, pasid: int | None = None, perm: int = FaultPerm.READ, last: bool = True
    ) -> None:
        """Report one page request, as the IOMMU's driver does. *last*: it completes the group with this index.

        *grpid*: the group index. *addr*: 64 bits. *pasid*: None: a request without a PASID. *perm*: `FaultPerm`.

        Raises: KernelError(ENOENT), it is unbound; KernelError(EINVAL), no queue accepts the fault, which was answered
        INVALID; KernelError(ENOMEM), the fault was dropped; UsageError, a number is out of range. Behind an `Iommu` a
        group index has 9 bits, and a PASID 20.
        Source: iommu_report_device_fault, Linux 6.12.
        """
        check_fits(32, grpid=grpid, pasid=pasid or 0, perm=perm)
        check_fits(64, addr=addr)
        if self.unplugged:
            raise KernelError(errno.ENOENT, "iommu_report_device_fault")
        flags = (FaultFlags.LAST_PAGE if last else 0) | (0 if pasid is None else FaultFlags.PASID_VALID)
        rc = lib.uiopf_device_report(self.c, flags, pasid or 0, grpid, perm, addr)
        if rc == -errno.ERANGE:
            raise UsageError(
                f"grpid must be 0 to 511 and pasid 0 to 2^20 - 1 behind an IOMMU with PCIe's formats, not {grpid} and "
                f"{pasid}"
            )
        check(rc, "iommu_report_device_fault")

    def report_event(self, kind: int, data: bytes) -> None:
        """Report an event of type *kind* (`VeventqType`), as the IOMMU's driver does. Events need no answer.

        The event goes to the virtual IOMMU of the nested table that the device is attached to, or else to the table's
        own `ReportQueue`.

        Raises: KernelError(ENOENT), it is unbound; KernelError(EOPNOTSUPP), there is no queue for this type; else as
        `EventQueue.report`. Source: iommufd_viommu_report_event, Linux 7.2.
        """
        whole("kind", kind)
        check_bytes(data=data)
        if self._c is None or self.unplugged:
            raise KernelError(errno.ENOENT, "report event")
        at = self.group.attachments.get(NO_PASID)
        if self.virtual is not None:
            self.virtual.viommu.report_event(kind, data)
        elif at is not None and at.hwpt.reports is not None and at.hwpt.reports.type == kind:
            at.hwpt.reports.report(data)
        else:
            raise KernelError(errno.EOPNOTSUPP, "report event")

    def counts(self) -> DeviceCounts:
        """Return the counts of its reports. Raises: KernelError(ENOENT), it is unbound."""
        counts = ffi.new("struct uiopf_device_counts *")
        lib.uiopf_device_get_counts(self.c, counts)
        return DeviceCounts(
            counts.reported, counts.refused, counts.dropped, counts.stale, counts.passed_over, counts.served
        )

    def leaving(self) -> list[Step]:
        """The steps that free it, once it is detached. Its virtual device is destroyed first."""
        revoke = [] if self.vdevice is None else self.vdevice.revoking()
        if self._on_unbind is not None:
            self._on_unbind()
        return [
            *revoke,
            partial(lib.uiopf_device_leave, self.c),
            self.group.leaving(self),
            partial(setattr, self, "iommu", NO_IOMMU),
            partial(setattr, self, "_c", None),
        ]

    # ---- attach and replace ----

    def _key(self, call: str, pasid: int | None) -> int:
        if pasid is None or whole("pasid", pasid) == 0:
            return NO_PASID
        if not self._version.pasid_attach:
            raise KernelError(errno.EINVAL, call)
        if not 0 < pasid < 2**32:
            raise UsageError(f"{call}: pasid must be 0 to 2^32 - 1, not {pasid}")
        return pasid

    def _change(self, call: str, pt: ObjectRef, pasid: int | None) -> HWPT:
        """iommufd_device_change_pt()."""
        self._table.begin()
        if not self.exists or self.unplugged:
            raise KernelError(errno.ENOENT, call)
        key = self._key(call, pasid)
        target = self._table.get(pt, Object, call)
        switch = self._attach if call == "attach" else self._replace
        if isinstance(target, HWPT):
            switch(target, key)
            return target
        if isinstance(target, IOAS):
            return self._switch_to_space(call, target, key)
        raise KernelError(errno.EINVAL, call)

    def _switch_to_space(self, call: str, ioas: IOAS, pasid: int) -> HWPT:
        """iommufd_device_auto_get_domain(): the first table made for the space that fits, or a new one."""
        switch = self._attach if call == "attach" else self._replace
        for hwpt in auto_tables(ioas):
            try:
                switch(hwpt, pasid)
            except KernelError as error:
                if error.errno != errno.EINVAL:
                    raise
            else:
                return hwpt
        geometry = self.driver.hardware.geometry
        hwpt = PagingHWPT(self._table, self.iommu, ioas, HwptAllocFlags(0), auto=True, geometry=geometry)
        switch(hwpt, pasid, *hwpt.entering())
        return hwpt

    def _attach(self, hwpt: HWPT, pasid: int, *enter: Step) -> None:
        """iommufd_hw_pagetable_attach(). *enter*: the steps that enter a new table."""
        at = self.group.attachments.get(pasid)
        if at is not None:
            if self in at.devices and (at.hwpt is hwpt or self._version.attached_is_busy):
                raise KernelError(errno.EBUSY, "attach")
            if at.hwpt is not hwpt:
                raise KernelError(errno.EINVAL, "attach")
        reserve = hwpt.space.reserving(self, self.reserved) if pasid == NO_PASID else []
        steps: list[Step] = []
        if at is None:
            identities = self._check_table("attach", hwpt, pasid, None)
            at = Attachment(hwpt)
            steps = [
                partial(lib.uiopf_attach, self.c, pasid, _queue_of(hwpt), self._flags(hwpt)),
                *self._setting_pasid("attach", pasid),
                *_identifying(identities),
                partial(self.group.attachments.__setitem__, pasid, at),
            ]
        attached: list[Step] = [partial(at.devices.append, self), hwpt.holding(), self.holding()]
        self._table.change("attach", *steps, *enter, *reserve, *attached)

    def _replace(self, hwpt: HWPT, pasid: int, *enter: Step) -> None:
        """iommufd_device_do_replace(). *enter*: the steps that enter a new table."""
        if not self.group.is_attached(self, pasid):
            raise KernelError(errno.EINVAL, "replace")
        at = self.group.attachments[pasid]
        old = at.hwpt
        if old is hwpt:
            return
        move: list[Step] = []
        if pasid == NO_PASID and hwpt.space is not old.space:
            for one in at.devices:
                move += hwpt.space.reserving(one, one.reserved)
                move += old.space.unreserving(one)
        identities = self._check_table("replace", hwpt, pasid, old)
        set_pasid = self._setting_pasid("replace", pasid)
        self._table.change(
            "replace",
            partial(lib.uiopf_replace, self.c, pasid, _queue_of(hwpt), self._flags(hwpt)),
            *set_pasid,
            *enter,
            *_identifying(identities),
            *move,
            partial(setattr, at, "hwpt", hwpt),
            *(hwpt.holding() for _ in at.devices),
            *old.detaching(len(at.devices)),
        )

    def _check_table(
        self, call: str, hwpt: HWPT, pasid: int, old: HWPT | None
    ) -> list[tuple[Member, VirtualIdentity | None]]:
        """iommufd_hwpt_pasid_compat(), iommufd_hwpt_compatible_device(), and the checks of the IOMMU core and driver.

        *old*: the table that it is attached to. Return the virtual identities of the group's devices, which the driver
        finds meanwhile.
        """
        if pasid == NO_PASID:
            fits = hwpt.pasid_compatible or not self.group.has_pasids()
        else:
            fits = hwpt.pasid_compatible and self.group.takes_pasids()
        if not fits or self._refused(hwpt, old):
            raise KernelError(errno.EINVAL, call)
        if pasid != NO_PASID and not self.driver.has_pasids(nested=isinstance(hwpt, NestedHWPT)):
            raise KernelError(errno.EOPNOTSUPP, call)
        if hwpt.iommu != self.iommu:
            raise KernelError(errno.EINVAL, call)
        if pasid != NO_PASID:
            # Devices of its group without a PASID capability cannot send a PASID, and are not checked.
            if pasid >= self.max_pasids or any(0 < one.max_pasids <= pasid for one in self.group.devices):
                raise KernelError(errno.EINVAL, call)
            return []
        return [(one, virtual_identity(one, hwpt, call)) for one in self.group.devices]

    def _setting_pasid(self, _call: str, _pasid: int) -> list[Step]:
        """The steps by which the driver notes a PASID's table, after all checks. Raises: KernelError, it refuses."""
        return []

    def _clearing_pasid(self, _pasid: int) -> list[Step]:
        """The steps by which the driver notes that a PASID has no table any more."""
        return []

    def _refused(self, hwpt: HWPT, old: HWPT | None) -> bool:
        """Whether it is a virtual function that may not use this table.

        6.12 checks only when faults are enabled (iommufd_fault_iopf_enable). So a function that got a table with a
        queue through another device of its group may replace it by another such table. 7.2 checks every time.
        """
        if self.virtual_function is None or hwpt.fault is None or self.shares_pri:
            return False
        if self._version.refused_functions is RefusedFunctions.ALL:
            return old is None or old.fault is None
        return self.virtual_function.pf_has_pri


def _identifying(identities: list[tuple[Member, VirtualIdentity | None]]) -> list[Step]:
    return [partial(setattr, device, "virtual", identity) for device, identity in identities]


def _is_iommu(given: object) -> bool:
    return isinstance(given, ffi.CData) and ffi.typeof(given) is ffi.typeof("struct uiopf_iommu *")


def _queue_of(hwpt: HWPT) -> CFaultQueue:
    return hwpt.fault.c if hwpt.fault else CFaultQueue(ffi.NULL)
