"""Package metadata comes from settings.ini, which nbdev reads too: one place for names, versions and requirements."""
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

config = ConfigParser(delimiters=["="])
config.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
extras = {key.removesuffix("_requirements"): cfg[key].split() for key in cfg if key.endswith("_requirements")}
extras["all"] = sorted({req for reqs in extras.values() for req in reqs})

class BuildWithEntries(build_py):
    """The package with the project's methods in it, as dir_nb/entries: conf/ is not installed."""
    def run(self):
        super().run()
        if not self.editable_mode: # a checkout reads its conf/
            entries = Path(self.build_lib) / "dir_nb" / "entries"
            shutil.rmtree(entries, ignore_errors=True)
            shutil.copytree(Path(__file__).parent / "conf" / "methods", entries)


setup(
    cmdclass={"build_py": BuildWithEntries},
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    keywords=cfg["keywords"],
    license="Apache-2.0",
    packages=find_packages(include=["dir_nb", "dir_nb.*"]),
    package_data={"dir_nb": ["py.typed", "advice.json"]},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": [cfg["console_scripts"]], "nbdev": ["dir_nb=dir_nb._modidx:d"]},
    classifiers=["License :: OSI Approved :: Apache Software License", "Programming Language :: Python :: 3.11", "Programming Language :: Python :: 3.12"],
)
