#!/usr/bin/env python3
"""Writes src/host/cpu/x86_models.txt: what each x86 CPU model has, from the answers of an installed QEMU.

usage: scripts/cpu-models.py [/usr/bin/qemu-system-x86_64] > src/host/cpu/x86_models.txt

One line a model: NAME VENDOR FEATURES..., or NAME = OTHER +FEATURE -FEATURE for a model near one above it. Names of
features are libvirt's. What is no processor feature (behaviour of QEMU, second spellings) is left out, and so are the
two things that QEMU gave old models late and only with newer machine types: timers that do not stop (arat) before
Skylake, and carry-less multiplication on Westmere.
"""
import json, re, socket, subprocess, sys

ORDER = """486 pentium pentium2 pentium3 coreduo n270 core2duo qemu32 kvm32 qemu64 kvm64 Conroe Penryn Nehalem Westmere
SandyBridge IvyBridge Haswell-noTSX Haswell Broadwell-noTSX Broadwell Skylake-Client Skylake-Server Cascadelake-Server
Icelake-Server Cooperlake Snowridge SapphireRapids GraniteRapids SierraForest ClearwaterForest Denverton KnightsMill
athlon phenom Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4 Opteron_G5 EPYC EPYC-Rome EPYC-Milan EPYC-Genoa Dhyana
YongFeng""".split()
VENDORS = {'GenuineIntel': 'Intel', 'AuthenticAMD': 'AMD', 'HygonGenuine': 'Hygon', 'CentaurHauls': 'Zhaoxin', '  Shanghai  ': 'Zhaoxin'}
SPELLING = {'cmp-legacy': 'cmp_legacy', 'ds-cpl': 'ds_cpl', 'fxsr-opt': 'fxsr_opt', 'lahf-lm': 'lahf_lm',
            'nodeid-msr': 'nodeid_msr', 'pclmulqdq': 'pclmuldq', 'perfctr-core': 'perfctr_core',
            'perfctr-nb': 'perfctr_nb', 'sse3': 'pni', 'svm-lock': 'svm_lock', 'tsc-adjust': 'tsc_adjust',
            'tsc-scale': 'tsc_scale', 'vmcb-clean': 'vmcb_clean'}
OTHER = {'check', 'enforce', 'fill-mtrr-mask', 'full-cpuid-auto-level', 'host-cache-info', 'host-phys-bits', 'hypervisor',
         'kvm', 'l3-cache', 'legacy-cache', 'legacy-multi-node', 'lmce', 'migratable', 'pmu', 'start-powered-off',
         'realized', 'hotplugged', 'hotpluggable', 'tcg-cpuid', 'vmware-cpuid-freq', 'cpuid-0xb', 'i64', 'xd', 'ffxsr',
         'pni', 'pclmuldq', 'sse4-1', 'sse4-2'}


def ask(binary):
    ours, theirs = socket.socketpair()
    qemu = subprocess.Popen([binary, '-S', '-no-user-config', '-nodefaults', '-display', 'none', '-machine', 'none',
                             '-accel', 'tcg', '-chardev', f'socket,id=m,fd={theirs.fileno()}', '-mon',
                             'chardev=m,mode=control'], pass_fds=[theirs.fileno()])
    theirs.close()
    stream = ours.makefile('rw')
    stream.readline()

    def call(name, **arguments):
        stream.write(json.dumps({'execute': name, 'arguments': arguments}) + '\n')
        stream.flush()
        while True:
            answer = json.loads(stream.readline())
            if 'return' in answer: return answer['return']
            if 'error' in answer: raise RuntimeError(answer['error'])
    call('qmp_capabilities')
    names = [d['name'] for d in call('query-cpu-definitions') if d['name'] not in ('max', 'host', 'base')]
    found = {n: call('query-cpu-model-expansion', type='full', model={'name': n})['model']['props'] for n in names}
    call('quit')
    qemu.wait()
    return found


def features(name, props):
    has = {k for k, v in props.items() if v is True and k not in OTHER and '_' not in k
           and not k.startswith(('x-', 'hv-', 'kvm-'))}
    has = {SPELLING.get(k, k) for k in has}
    if props['vendor'] == 'GenuineIntel' and not re.match('Skylake|Cascade|Icelake|Cooper|Snow|Sapphire|Granite|Sierra|Clear|Denverton|Knights', name):
        has.discard('arat')
    if name.startswith('Westmere'): has.discard('pclmuldq')
    return has


def key(name):
    base = max((b for b in ORDER if name == b or name.startswith(b + '-')), key=len, default=None)
    version = re.search(r'-v(\d+)$', name)
    return (ORDER.index(base) if base else len(ORDER), version is not None, int(version.group(1)) if version else 0, len(name), name)


def main():
    found = ask(sys.argv[1] if len(sys.argv) > 1 else '/usr/bin/qemu-system-x86_64')
    written = {}
    print('# Made by scripts/cpu-models.py; do not edit.')
    for name in sorted(found, key=key):
        has, vendor = features(name, found[name]), VENDORS.get(found[name]['vendor'], '-')
        near = min((n for n in written if written[n][1] == vendor), key=lambda n: len(has ^ written[n][0]), default=None)
        if near and len(has ^ written[near][0]) < 20:
            changes = ['+' + f for f in sorted(has - written[near][0])] + ['-' + f for f in sorted(written[near][0] - has)]
            print(' '.join([name, '=', near] + changes))
        else:
            print(' '.join([name, vendor] + sorted(has)))
        written[name] = (has, vendor)


main()
