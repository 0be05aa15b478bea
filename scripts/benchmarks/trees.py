"""Projects of many files, with a few tests."""

import random


def write(lab, name, files, size, tests, command):
    """On the laptop and on the hosts; `size` bytes in all, which do not compress. Each test runs the command."""
    project = lab.project(name)
    chance = random.Random(files)
    for number in range(files):
        path = project / f"lib/part_{number // 100}/file_{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size // files))
    for number in range(tests):
        (project / f"check_{number}.sh").write_text(f"{command}\n")
    (project / ".distributest").mkdir()
    (project / ".distributest/config.toml").write_text('files = ["*.sh"]\ncommand = "sh {file}"\n')
    lab.own()
    lab.copy_to_hosts(name)


def change(lab, name, files, share):
    """Gives some of the files, evenly spread, other contents of the same size, as an editor would."""
    for number in range(0, files, files // share):
        path = lab.home / f"{name}/lib/part_{number // 100}/file_{number}.bin"
        content = path.read_bytes()
        path.write_bytes(content[1:] + content[:1])
