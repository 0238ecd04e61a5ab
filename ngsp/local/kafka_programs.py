"""Apache Kafka's programs: the jars Maven brings, once per person, and the Java or container engine that runs them."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import pwd
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ngsp.local.process import LocalServerError, run_program
from ngsp.text import Text, tr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KAFKA_VERSION = "4.1.0"
_JAVA_MINIMUM = 17
_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
_IMAGE_CLASSPATH = "/opt/kafka/libs/*"
_MAVEN = Path(__file__).parent / "maven"
_MAVEN_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Programs:
    """How to run one of Kafka's Java programs: `java` is the words before Java's own options."""

    java: tuple[str, ...]
    classpath: str


def kafka_available() -> tuple[bool, Text]:
    """Whether a real Kafka can be started here, and with what, or what is missing."""
    java = _java()
    maven = shutil.which("mvn")
    if _java_serves(java):
        return True, Text(vi=f"Kafka {KAFKA_VERSION} chạy bằng {java}", en=f"Kafka {KAFKA_VERSION} runs on {java}")
    if _docker():
        return True, Text(vi=f"Kafka chạy bằng ảnh Docker {_IMAGE}", en=f"Kafka runs as the Docker image {_IMAGE}")
    missing = " + ".join(name for name, present in ((f"Java ≥ {_JAVA_MINIMUM}", java), ("Maven", maven)) if not present)
    return False, Text(
        vi="Không chạy được Kafka: thiếu {missing}, và không có Docker. "
        "Cài đặt: apt-get install openjdk-17-jre-headless maven",
        en="Kafka cannot run: {missing} missing, and no Docker either. "
        "To install: apt-get install openjdk-17-jre-headless maven",
    ).format(missing=missing)


def kafka_programs(folder: Path, say: Callable[[str], None]) -> Programs:
    """Kafka's programs, brought by Maven the first time. `folder` is where the broker's files are.

    Raises LocalServerError when there is neither Java with Maven nor Docker, or when what Maven brought is not what the
    digests say.
    """
    available, reason = kafka_available()
    if not available:
        raise LocalServerError(reason)
    java = _java()
    jars = _jars_folder()
    if java and _java_serves(java):
        if not _jars_complete(jars):
            with _taking_turns(jars.parent):
                if not _jars_complete(jars):
                    _bring_jars(jars, say)
        return Programs(java=(java,), classpath=f"{jars}/*")
    user = f"{os.geteuid()}:{os.getegid()}"
    # The host's network and the same path inside and outside: one configuration serves both ways to run.
    run = ("docker", "run", "--rm", "--network", "host", "--user", user, "--volume", f"{folder}:{folder}")
    return Programs(java=(*run, "--entrypoint", "java", _IMAGE), classpath=_IMAGE_CLASSPATH)


def _java_serves(java: str | None) -> bool:
    """With Java alone the jars must be there already."""
    return java is not None and (shutil.which("mvn") is not None or _jars_complete(_jars_folder()))


@functools.cache
def _java() -> str | None:
    """Path of a Java that is new enough: JAVA_HOME's, else the first on PATH."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        return None
    _, answer = run_program([java, "-version"], folder=Path("/"))
    found = re.search(r'version "(\d+)', answer)
    return java if found and int(found[1]) >= _JAVA_MINIMUM else None


@functools.cache
def _docker() -> bool:
    docker = shutil.which("docker")
    return docker is not None and run_program([docker, "info"], folder=Path("/"), timeout_s=20.0)[0] == 0


def _jars_folder() -> Path:
    cache = os.environ.get("NGSP_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "ngsp").absolute() / f"kafka-{KAFKA_VERSION}"


@contextmanager
def _taking_turns(folder: Path) -> Iterator[None]:
    """Of several who find no jars at once, one fetches them and the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digests() -> dict[str, str]:
    """File name → SHA-256, as in the list made from Maven Central."""
    lines = (_MAVEN / "jars.sha256").read_text("ascii").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def _jars_complete(folder: Path) -> bool:
    return all((folder / name).exists() for name in _digests())


def _bring_jars(folder: Path, say: Callable[[str], None]) -> None:
    """Into a folder beside the final one, checked, then one rename: nobody ever sees half of it."""
    say(
        tr(
            vi=f"Tải Apache Kafka {KAFKA_VERSION} bằng Maven (43 MB, chỉ lần đầu)…",
            en=f"Fetching Apache Kafka {KAFKA_VERSION} with Maven (43 MB, first time only)…",
        )
    )
    with tempfile.TemporaryDirectory(prefix="kafka-", dir=folder.parent) as staging:
        jars = Path(staging) / "jars"
        shutil.copy(_MAVEN / "pom.xml", staging)
        _run_maven(Path(staging), jars)
        _check_digests(jars)
        if folder.exists() and not _jars_complete(folder):
            shutil.rmtree(folder)
        try:
            jars.rename(folder)
        except OSError:
            if not _jars_complete(folder):
                raise
            # Another process was faster; its jars passed the same check.


def _run_maven(project: Path, jars: Path) -> None:
    command = ["mvn", "-q", "-B", "--strict-checksums", "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)  # Java asks the account for its home, not the variable HOME
    if not os.access(home, os.W_OK):
        command.append(f"-Dmaven.repo.local={project / 'repository'}")
    status, output = run_program(command, folder=project, timeout_s=_MAVEN_TIMEOUT_S)
    if status != 0:
        raise LocalServerError(
            Text(
                vi="Maven không tải được Kafka (cần truy cập Maven Central hoặc một kho nhân bản):\n{log}",
                en="Maven could not fetch Kafka (it needs Maven Central or a mirror):\n{log}",
            ).format(log=output[-2000:])
        )


def _check_digests(jars: Path) -> None:
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in jars.iterdir()}
    wanted = _digests()
    wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if wrong:
        raise LocalServerError(
            Text(
                vi="Các tệp Maven tải về không khớp mã băm đã ghi: {names}. Kho Maven đang dùng không đáng tin.",
                en="What Maven brought does not match the recorded digests: {names}. Do not trust that repository.",
            ).format(names=", ".join(wrong))
        )
