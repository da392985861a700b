// Shows what the kernel sends; what a person has unfolded stays so.
export default {
  render({ model, el }) {
    const draw = () => {
      const open = [...el.querySelectorAll("details")].map((one) => one.open);
      el.innerHTML = model.get("card");
      el.querySelectorAll("details").forEach((one, n) => (one.open = Boolean(open[n])));
    };
    model.on("change:card", draw);
    draw();
    return () => model.off("change:card", draw);
  },
};
