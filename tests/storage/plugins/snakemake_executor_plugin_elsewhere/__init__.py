"""An executor for tests: every job runs in an empty folder of its own, as on a fresh machine without a shared file system.

It has the settings of Snakemake's Kubernetes and cloud executors: a job fetches the workflow's sources and its inputs from the default
storage, stores its outputs there, and its folder is thrown away. What a job leaves anywhere else is lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=True,
    job_deploy_sources=True,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,  # the "image", this environment, holds the plugin
    init_seconds_before_status_checks=1,
)

# The compiled steps, which are tested elsewhere: to build them takes most jobs longer than all else.
IN_THE_IMAGE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


class Executor(RemoteExecutor):
    """Starts jobs as processes and looks at them twice a second."""

    def __post_init__(self) -> None:
        self.next_seconds_between_status_checks = 0.5

    def run_job(self, job: JobExecutorInterface) -> None:
        folder = tempfile.mkdtemp(prefix="elsewhere-")
        command = self.format_job_exec(job)
        log = Path(f"{folder}.log").open("w")  # noqa: SIM115 - the job writes to it
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env={**os.environ, "HOME": folder, "XDG_CACHE_HOME": IN_THE_IMAGE},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        info = SubmittedJobInfo(job, external_jobid=str(process.pid), aux={"process": process, "folder": folder})
        self.report_job_submission(info)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        for info in active_jobs:
            code = info.aux["process"].poll()
            if code is None:
                yield info
                continue
            shutil.rmtree(info.aux["folder"])
            if code == 0:
                self.report_job_success(info)
            else:
                self.report_job_error(info, msg=Path(f"{info.aux['folder']}.log").read_text())

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        for info in active_jobs:
            info.aux["process"].terminate()
