"""What pyproject.toml cannot say: conf/ lies beside cxr/ in the repository, and inside it, as cxr/conf, in a wheel."""

from setuptools import find_namespace_packages, setup

conf = [f"cxr.{folder}" for folder in find_namespace_packages(include=["conf*"])]
setup(
    packages=[*find_namespace_packages(include=["cxr*", "hydra_plugins*"]), *conf],
    package_dir={"cxr.conf": "conf"},
    package_data={"": ["*.yaml", "*.otf", "*.txt", "*.css", "*.html", "*.js", "py.typed"]},
)
