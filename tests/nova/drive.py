#!/usr/bin/env python3
"""Drives OpenStack Nova's libvirt driver, unmodified, against a running domusd.

Nova's services, database and message queue are not needed: the driver gets the objects that nova-compute would give
it. Functions that need root are executed in this process (it is root) instead of Nova's helper daemon; reading from the
database and from the image service is replaced, nothing else is. Prints one line per step; exits with 1 when one failed.

    drive.py URI {qemu|lxc} STATE_DIR GUEST_DIR
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid

import nova.monkey_patch

nova.monkey_patch.patch(backend="threading")

import nova.conf  # noqa: E402
from nova import context as nova_context  # noqa: E402
from nova import exception, objects  # noqa: E402
from nova.compute import power_state, vm_states  # noqa: E402
from nova.network import model  # noqa: E402
from nova.virt import event as virtevent  # noqa: E402
from nova.virt import fake  # noqa: E402
from nova.virt import images  # noqa: E402
from nova.virt.libvirt import driver as libvirt_driver  # noqa: E402
from oslo_utils import timeutils  # noqa: E402

CONF = nova.conf.CONF
IMAGE_ID = "70a599e0-31e7-49b7-b260-868f441e862b"


def configure(uri, virt_type, state):
    # Nova reads its configuration from files; this one is written beside the state.
    path = os.path.join(state, "nova.conf")
    with open(path, "w", encoding="utf-8") as conf:
        conf.write(f"""[DEFAULT]
state_path = {state}
instances_path = {state}/instances
concurrency_backend = threading
my_ip = 127.0.0.1
force_raw_images = {virt_type == "lxc"}
default_ephemeral_format = ext4
[libvirt]
virt_type = {virt_type}
connection_uri = {uri}
images_type = {"raw" if virt_type == "lxc" else "qcow2"}
cpu_mode = {"none" if virt_type == "lxc" else "host-model"}
inject_partition = -2
wait_soft_reboot_seconds = 60
[vnc]
enabled = {virt_type != "lxc"}
server_listen = 127.0.0.1
[oslo_concurrency]
lock_path = {state}/locks
""")
    from nova import config
    config.parse_args(["drive", "--config-file", path], init_rpc=False, configure_db=False)
    nova.conf.neutron.register_dynamic_opts(CONF)
    objects.register_all()


def run_privileged_functions_here():
    import nova.privsep
    import os_vif

    nova.privsep.sys_admin_pctxt.set_client_mode(False)
    os_vif.initialize()

    # What os-vif's plugin makes of a port with hybrid plugging, but for the far side in Open vSwitch: a bridge, into
    # which the hypervisor plugs the guest.
    def exists(link):
        return link in (name for _, name in socket.if_nameindex())

    def plug(vif, instance_info):
        if not exists(vif.bridge_name):
            subprocess.run(["ip", "link", "add", vif.bridge_name, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", vif.bridge_name, "up"], check=True)

    def unplug(vif, instance_info):
        if exists(vif.bridge_name):
            subprocess.run(["ip", "link", "del", vif.bridge_name], check=True)

    os_vif.plug, os_vif.unplug = plug, unplug


class VirtAPI(fake.FakeVirtAPI):
    """What nova-compute offers its driver; no other service ever reports a plugged port, so nothing is waited for."""

    @contextlib.contextmanager
    def wait_for_instance_event(self, instance, event_names, timeout=None, error_callback=None):
        yield

    def exit_wait_early(self, events):
        pass

    def update_compute_provider_status(self, context, rp_uuid, enabled):
        pass


def replace_database_and_images(guest, virt_type):
    """The image service has one image, and nothing is in a database."""

    def fetch(context, image_href, path, *args, **kwargs):
        shutil.copyfile(os.path.join(guest, {
            "kernel-id": "kernel", "ramdisk-id": "initrd"}.get(image_href, "image")), path)

    images.fetch = fetch
    images.fetch_to_raw = fetch
    objects.Instance.save = lambda self, *args, **kwargs: self.obj_reset_changes()
    objects.Instance.refresh = lambda self, *args, **kwargs: None
    objects.InstanceList.get_uuids_by_host = classmethod(lambda cls, *args, **kwargs: [])
    for kind, names in {
            objects.InstanceList: ["get_by_host", "get_by_filters"],
            objects.VirtualInterfaceList: ["get_by_instance_uuid"],
            objects.BlockDeviceMappingList: ["get_by_instance_uuid"],
            objects.ShareMappingList: ["get_by_instance_uuid"]}.items():
        for name in names:
            setattr(kind, name, classmethod(lambda cls, *args, **kwargs: cls(objects=[])))
    objects.BlockDeviceMappingList.bdms_by_instance_uuid = classmethod(lambda cls, *args, **kwargs: {})

    def no_service(cls, *args, **kwargs):
        raise exception.ComputeHostNotFound(host="here")

    objects.Service.get_by_compute_host = classmethod(no_service)


def make_instance(context, virt_type):
    flavor = objects.Flavor(
        id=1, flavorid="1", name="m1.tiny", memory_mb=128, vcpus=1, root_gb=0, ephemeral_gb=0, swap=0,
        rxtx_factor=1.0, vcpu_weight=None, disabled=False, is_public=True, extra_specs={}, projects=[],
        description=None, created_at=None, updated_at=None, deleted_at=None, deleted=False)
    instance = objects.Instance(
        context=context, id=7, uuid=str(uuid.uuid4()), host="here", node="here", hostname="guest",
        display_name="guest", display_description="", project_id="a-project", user_id="a-user",
        flavor=flavor, old_flavor=None, new_flavor=None, instance_type_id=1, memory_mb=128, vcpus=1, root_gb=0,
        ephemeral_gb=0, image_ref=IMAGE_ID, os_type=None, architecture="x86_64", config_drive="",
        kernel_id="" if virt_type == "lxc" else "kernel-id",
        ramdisk_id="" if virt_type == "lxc" else "ramdisk-id",
        root_device_name=None, default_ephemeral_device=None, default_swap_device=None,
        system_metadata={}, metadata={}, info_cache=None, numa_topology=None, pci_devices=objects.PciDeviceList(),
        pci_requests=objects.InstancePCIRequests(requests=[]), resources=None, trusted_certs=None,
        vcpu_model=None, device_metadata=None, migration_context=None, ec2_ids=objects.EC2Ids(),
        tags=objects.TagList(), vm_state=vm_states.BUILDING, task_state=None, power_state=0, vm_mode=None,
        progress=0, key_data=None, key_name=None, user_data=None, auto_disk_config=False, cleaned=False,
        launched_at=timeutils.utcnow(), terminated_at=None, created_at=None, deleted=False, ephemeral_key_uuid=None,
        compute_id=1, cell_name=None, keypairs=objects.KeyPairList(objects=[]),
        security_groups=objects.SecurityGroupList(objects=[]))
    instance.info_cache = objects.InstanceInfoCache(network_info=model.NetworkInfo([]))
    instance.obj_reset_changes(recursive=True)
    return instance


def network_info():
    network = model.Network(
        id=str(uuid.uuid4()), bridge="br-int", label="a-network",
        subnets=[model.Subnet(
            cidr="10.0.0.0/24", dns=[], gateway=model.IP("10.0.0.1", "gateway"), routes=[],
            ips=[model.FixedIP(address="10.0.0.9")])], bridge_interface=None, vlan=None, mtu=1400)
    port = str(uuid.uuid4())
    vif = model.VIF(
        id=port, address="fa:16:3e:00:00:09", network=network, type=model.VIF_TYPE_OVS,
        details={"port_filter": True, "ovs_hybrid_plug": True}, devname="tapnova0", ovs_interfaceid=port,
        vnic_type=model.VNIC_TYPE_NORMAL, active=True, profile={})
    return model.NetworkInfo([vif])


class Run:
    def __init__(self, uri, virt_type, state, guest):
        self.virt_type = virt_type
        self.done = self.failed = 0
        self.events = []
        self.heard = threading.Condition()
        configure(uri, virt_type, state)
        run_privileged_functions_here()
        replace_database_and_images(guest, virt_type)
        self.context = nova_context.RequestContext("a-user", "a-project", is_admin=True)
        self.driver = libvirt_driver.LibvirtDriver(VirtAPI())
        self.instance = make_instance(self.context, virt_type)
        self.image = objects.ImageMeta.from_dict({
            "id": IMAGE_ID, "name": "image", "status": "active", "min_ram": 0, "min_disk": 0, "size": 1,
            "disk_format": "raw", "container_format": "bare",
            "properties": {"os_command_line": "console=ttyS0 no_timer_check"} if virt_type != "lxc" else {}})
        self.network = network_info()

    def step(self, name, call):
        begin = time.monotonic()
        try:
            said = call()
            word = "ok"
            self.done += 1
        except Exception as error:  # every step says what it met
            self.failed += 1
            said, word = f"{type(error).__name__}: {error}", "FAILED"
            traceback.print_exc()
        print(f"  {name:<28} {word:<6} {(time.monotonic() - begin) * 1000:7.0f} ms  {said if said is not None else ''}",
              flush=True)

    def note(self, event):
        with self.heard:
            self.events.append(event)
            self.heard.notify_all()

    def wait_for(self, what, predicate, seconds=60):
        with self.heard:
            if not self.heard.wait_for(predicate, seconds):
                raise TimeoutError(f"{what}: not within {seconds} s; events: {[str(event) for event in self.events]}")

    def state(self):
        return self.driver.get_info(self.instance).state

    def expect(self, wanted):
        found = self.state()
        assert found == wanted, f"state {found}, not {wanted}"
        return power_state.STATE_MAP[found]

    # ---- the steps -------------------------------------------------------------------------------------------------

    def init_host(self):
        self.driver.init_host("here")
        self.driver.register_event_listener(self.note)
        return f"libvirt {self.driver._host.get_connection().getLibVersion()}, " \
               f"{self.driver._host.get_driver_type()} {self.driver._host.get_connection().getVersion()}"

    def inventory(self):
        found = self.driver.get_available_resource("here")
        assert found["vcpus"] >= 1 and found["memory_mb"] > 100, found
        return f"{found['vcpus']} CPUs, {found['memory_mb']} MiB, {found['hypervisor_type']}, " \
               f"{len(found['supported_instances'])} instance types"

    def provider_tree(self):
        from nova.compute import provider_tree
        tree = provider_tree.ProviderTree()
        tree.new_root("here", str(uuid.uuid4()))
        self.driver.update_provider_tree(tree, "here")
        return ", ".join(f"{key} {value['total']}" for key, value in sorted(tree.data("here").inventory.items()))

    def cpu_stats(self):
        return ", ".join(sorted(self.driver.get_host_cpu_stats()))

    def secrets(self):
        host = self.driver._host
        assert host.find_secret("volume", "volume-1") is None
        host.create_secret("volume", "volume-1", password="s3cret")
        secret = host.find_secret("volume", "volume-1")
        assert secret.value() == b"s3cret"
        host.delete_secret("volume", "volume-1")
        assert host.find_secret("volume", "volume-1") is None

    def spawn(self):
        self.driver.spawn(self.context, self.instance, self.image, [], None, {}, self.network)
        self.instance.vm_state = vm_states.ACTIVE
        return self.expect(power_state.RUNNING)

    def started_event(self):
        wanted = virtevent.EVENT_LIFECYCLE_STARTED, virtevent.EVENT_LIFECYCLE_RESUMED
        self.wait_for("a started event", lambda: any(event.get_transition() in wanted for event in self.events))
        return f"{len(self.events)} so far"

    def console_log(self, word=b"domus-guest: ready"):
        end = time.monotonic() + 120
        while True:
            output = self.driver.get_console_output(self.context, self.instance)
            if word in output:
                return f"{len(output)} bytes"
            assert time.monotonic() < end, f"no {word!r} in {output[-400:]!r}"
            time.sleep(0.3)

    def inventory_with_guest(self):
        found = self.driver.get_available_resource("here")
        return f"{found['vcpus_used']} CPU used, {self.driver.list_instances()}"

    def diagnostics(self):
        found = self.driver.get_instance_diagnostics(self.instance)
        return f"{found.state}, {found.driver}, {len(found.nic_details)} NIC, {len(found.disk_details)} disk"

    def vnc(self):
        console = self.driver.get_vnc_console(self.context, self.instance)
        return f"{console.host}:{console.port}"

    def pause(self):
        self.driver.pause(self.instance)
        return self.expect(power_state.PAUSED)

    def unpause(self):
        self.driver.unpause(self.instance)
        return self.expect(power_state.RUNNING)

    def reboot(self, kind):
        self.driver.reboot(self.context, self.instance, self.network, kind)
        return self.expect(power_state.RUNNING)

    def power_off(self):
        begin = len(self.events)
        self.driver.power_off(self.instance, timeout=60, retry_interval=10)
        stopped = virtevent.EVENT_LIFECYCLE_STOPPED
        self.wait_for("a stopped event", lambda: any(
            event.get_transition() == stopped for event in self.events[begin:]), 60)
        return self.expect(power_state.SHUTDOWN)

    def power_on(self):
        self.driver.power_on(self.context, self.instance, self.network)
        return self.expect(power_state.RUNNING)

    def destroy(self):
        self.driver.destroy(self.context, self.instance, self.network)
        assert self.driver.list_instances() == []
        try:
            self.driver.get_info(self.instance)
        except exception.InstanceNotFound:
            return "gone"
        raise AssertionError("the instance is still there")

    def all(self):
        steps = [
            ("init_host", self.init_host),
            ("get_available_resource", self.inventory),
            ("update_provider_tree", self.provider_tree),
            ("get_host_cpu_stats", self.cpu_stats),
            ("secrets", self.secrets),
            ("spawn", self.spawn),
            ("events", self.started_event),
            ("get_console_output", self.console_log),
            ("inventory with a guest", self.inventory_with_guest),
            ("diagnostics", self.diagnostics),
            ("pause", self.pause),
            ("unpause", self.unpause),
        ]
        if self.virt_type != "lxc":
            steps += [
                ("get_vnc_console", self.vnc),
                ("reboot soft", lambda: self.reboot("SOFT")),
                ("reboot hard", lambda: self.reboot("HARD")),
                ("power_off", self.power_off),
                ("power_on", self.power_on),
            ]
        steps.append(("destroy", self.destroy))
        for name, call in steps:
            self.step(name, call)
            if name == "spawn" and self.failed:
                break
        print(f"{self.done} of {len(steps)} steps of nova.virt.libvirt.driver with {self.virt_type}",
              flush=True)
        return 1 if self.failed else 0


if __name__ == "__main__":
    status = Run(*sys.argv[1:5]).all()
    # Threads of the driver wait for events for ever.
    sys.stderr.flush()
    os._exit(status)
