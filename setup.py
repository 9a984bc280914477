"""What pyproject.toml cannot say: conf/ lies beside cxr/ in the repository, and inside it, as cxr/conf, in a wheel."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["cxr*", "hydra_plugins*"]), "cxr.conf"],
    package_dir={"cxr.conf": "conf"},
    package_data={"cxr": ["py.typed", "**/*.otf", "**/OFL.txt", "**/*.css", "**/*.js"], "cxr.conf": ["**/*.yaml"]},
)
