# The image holds the installed wheel and its dependencies, no checkout.
#   docker build --tag detector .
#   mkdir -p out
#   docker run --rm --user "$(id -u):$(id -g)" \
#       --volume "$PWD/photos:/photos:ro" --volume "$PWD/out:/out" detector \
#       --images /photos --out /out/dets.json
# TORCH names another build of torch, such as one without CUDA, as pip takes it.

FROM python:3.11-slim AS build
ARG TORCH="torch torchvision"
WORKDIR /src
RUN python -m venv /opt/detector
ENV PATH="/opt/detector/bin:$PATH"
COPY constraints.txt ./
# hadolint ignore=DL3013,SC2086
RUN pip install --no-cache-dir --constraint constraints.txt ${TORCH}
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim
COPY --from=build /opt/detector /opt/detector
ENV PATH="/opt/detector/bin:$PATH"
RUN useradd --create-home --uid 10001 detector
USER detector
WORKDIR /home/detector
ENTRYPOINT ["detector-run"]
