# The service, as an image that holds an environment and no checkout.
#
#   docker build --tag detector .
#   docker run --rm --read-only --tmpfs /tmp --publish 8000:8000 detector
#
# The networks run on the processor, by OpenVINO. For a GPU, install PyTorch as well (several GB):
#
#   docker build --tag detector --build-arg EXTRAS=serve,torch .
#
# The other commands are inside as well:
#
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" --workdir /work \
#       --entrypoint detector-run detector --images photos --out dets.json

FROM python:3.11-slim AS python

FROM python AS build
ARG EXTRAS=serve
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv --without-pip /opt/detector \
    && pip install --constraint constraints.txt hatchling
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip --python /opt/detector install --constraint constraints.txt \
        "$(echo /dist/*.whl)[$EXTRAS]" \
    && pip --python /opt/detector check
# A second OpenCV would overwrite files of the one that has selective search.
RUN ["/opt/detector/bin/python", "-c", \
    "import cv2.ximgproc, importlib.metadata as m; assert len(set(m.packages_distributions()['cv2'])) == 1"]

FROM python
COPY --from=build /opt/detector /opt/detector
ENV PATH="/opt/detector/bin:$PATH"
# A number, which Kubernetes can see is not root. It needs no name and no home.
USER 10001:10001
EXPOSE 8000
# Past any proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=6 CMD ["python", "-c", \
    "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["detector-serve"]
CMD ["--host", "0.0.0.0"]
