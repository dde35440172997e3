% VOCevaldet.m's mean over eleven recalls (VOC2007 devkit), for rankings of N objects that are found one after another.
fid = fopen('eleven_points.csv', 'w');
fprintf(fid, 'positives,right,ap\n');
rand('seed', 1);
for n = [1 2 3 5 7 10 15 20 30 40 50 70 90 100]
  for k = 1:6
    right = rand(1, 2 * n) < 0.15 * k;
    right(cumsum(right) > n) = 0;
    tp = cumsum(right);
    fp = cumsum(~right);
    rec = tp / n;
    prec = tp ./ (fp + tp);
    ap = 0;
    for t = 0:0.1:1
      p = max(prec(rec >= t));
      if isempty(p)
        p = 0;
      end
      ap = ap + p / 11;
    end
    fprintf(fid, '%d,%s,%.17g\n', n, sprintf('%d', right), ap);
  end
end
fclose(fid);
printf('%.17g ', 0:0.1:1); printf('\n');
